"""One run and all that befalls it: submitted, struck, put forward, resumed where its user must, and judged."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.cluster.protocol import QueueState
from launcher.publish import publish_json, read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.job import read_job
from launcher.runs.status import State, status
from tests.faults import processes
from tests.faults.cluster import Cluster, NotDoneError, TrialError, wait
from tests.faults.deck import Blow, Ordeal
from tests.faults.faults import Place
from tests.faults.scene import Scene
from tests.workbench import Bench

STRUCK_S = 150.0
ENDED_S = 240.0
HELD_S = 1.6
"""How long a requeued job waits at least. A start within the second of the requeue is refused (`Job credential
revoked`) and ends the job; that is why Slurm holds it back, for longer than it takes."""


@dataclass(kw_only=True, slots=True)
class Strike:
    """A blow that fell, or should have."""

    blow: Blow
    """Which."""
    scene: Scene
    """What it did."""
    attempt: int | None = None
    """Attempt that it struck; None if it never fell."""
    time: float = 0.0
    """Unix time."""
    by_hand: bool = False
    """Whether the run had to be resumed after it."""
    missed: bool = False
    """Whether the run was complete before it could fall, or Slurm did not do it: it says nothing, and falls on a run of
    its own."""
    wrong: list[str] = field(default_factory=list)
    """What went wrong while it was watched."""


class Trial:
    """Carries one ordeal through."""

    def __init__(self, cluster: Cluster, bench: Bench, ordeal: Ordeal, *, seed: int, folder: Path) -> None:
        self.cluster, self._bench, self._ordeal = cluster, bench, ordeal
        self._seed, self.folder, self._faults = seed, folder, folder / "faults"
        self._pending_since: float | None = None
        self._hold = False
        self.strikes: list[Strike] = []
        self.run: RunDir
        self.job_ids: list[str] = []

    def carry_out(self, overrides: Sequence[str]) -> None:
        """Submit the run and see it through all its faults to its end; TrialError if it does not get there."""
        self._faults.mkdir(parents=True)
        blows = list(self._ordeal.blows)
        if blows:
            # Before there is a run: a fault may strike at its first start.
            self._arm(0, blows[0])
        with self.cluster.steady:
            answer = self._bench.run("submit", *overrides, "--json", check=False)
        if answer.returncode != 0:
            raise TrialError(f"submit: {answer.stderr.strip()[-500:]}")
        self.run = RunDir(Path(json.loads(answer.stdout)["run_dir"]))
        try:
            for number, blow in enumerate(blows):
                self._through(number, blow, blows[number + 1] if number + 1 < len(blows) else None)
            self._to_the_end()
        finally:
            for strike in self.strikes:
                self._mend(strike)
                _do_all(strike.scene.once_it_goes_on)
        wait(lambda: self._queued() is None, "the job has not left the queue", 60)

    def give_up(self) -> None:
        """Nothing of the run stays behind."""
        with contextlib.suppress(TrialError):
            for job in self.cluster.jobs_named(self.run.root.name):
                self.cluster.cancel(job)
            wait(lambda: self._queued() is None, "the job has not left the queue", 60)
        processes.send(signal.SIGKILL, *processes.mentioning(str(self._faults)))

    def _file(self, number: int) -> Path:
        return self._faults / f"{number:02d}.json"

    def _arm(self, number: int, blow: Blow) -> None:
        fault = blow.fault
        document = {"point": fault.point.value, "step": blow.step, "rank": blow.rank, "action": fault.action}
        publish_json(self._file(number), document)

    def _through(self, number: int, blow: Blow, following: Blow | None) -> None:
        """One blow, until the attempt that it struck is over, or never will be."""
        chance = random.Random(f"{self._seed}/{self._ordeal.number}/{number}")
        scene = Scene(
            cluster=self.cluster,
            bench=self._bench,
            run=self.run,
            chance=chance,
            faults=str(self._faults),
            rank=blow.rank or 0,
        )
        strike = Strike(blow=blow, scene=scene)
        self.strikes.append(strike)
        if not self._file(number).with_suffix(".struck").exists() and not self._file(number).exists():
            self._arm(number, blow)
        struck = self._file(number).with_suffix(".struck")
        self._watch(lambda: struck.exists() or self._over(), f"{blow.fault.name} has not struck", STRUCK_S)
        if not struck.exists() and number and self._state() is not State.COMPLETED:
            # What the blow before left behind ended the attempt after its own.
            self._resume(self.strikes[-2])
            self._watch(lambda: struck.exists() or self._over(), f"{blow.fault.name} has not struck", STRUCK_S)
        if not struck.exists():
            # Ranks that a fault leaves without srun train on for a while, past the next fault's place.
            strike.missed = number > 0 and self._state() is State.COMPLETED
            if strike.missed:
                return
            strike.wrong.append(f"it never struck: the run is {self._state()}")
            return
        strike.time = struck.stat().st_mtime
        strike.attempt = self._attempt_at(strike.time)
        if following is not None and blow.fault.expected.ends is not True:
            # The run may be past the next one before anybody looks.
            self._arm(number + 1, following)
        try:
            self._act(strike)
        except NotDoneError as error:
            strike.scene.notes.append(str(error))
            strike.missed = True
            strike.scene.go_on()
            return
        if blow.fault.place is Place.end:
            return
        if blow.fault.expected.ends is not False:
            self._see_it_end(strike, following is not None)
        self._mend(strike)

    def _act(self, strike: Strike) -> None:
        scene, blow = strike.scene, strike.blow
        nodes = self._nodes(strike.attempt or 1)
        scene.blamed = nodes[scene.rank] if scene.rank < len(nodes) else None
        self._hold = blow.fault.afterwards is not None
        if blow.fault.outside is None:
            return
        scene.pid = processes.rank_pid(scene.faults, scene.rank)
        wait(scene.stands, f"rank {scene.rank} does not stand still", 10, every_s=0.01)
        strike.time = time.time()
        blow.fault.outside(scene)

    def _see_it_end(self, strike: Strike, more: bool) -> None:
        """Until the attempt is over; where another blow is due, until it is known whether the run goes on."""
        fault, attempt = strike.blow.fault, strike.attempt
        assert attempt is not None, "it struck"

        following = self._file(len(self.strikes)).with_suffix(".struck")

        def passed() -> bool:
            return more and fault.expected.ends is None and following.exists()

        self._watch(
            lambda: self._ended(attempt) or self._over() or passed(),
            f"the attempt struck by {fault.name} has not ended",
            ENDED_S,
        )
        if passed() and self._attempt_at(following.stat().st_mtime) == attempt:
            # It did not end the attempt; the next one has struck the same.
            return
        if fault.afterwards is not None:
            fault.afterwards(strike.scene)
        self._hold = False
        self._mend(strike)
        self._watch(lambda: self._goes_on(attempt) or self._over(), "neither gone nor started again", ENDED_S)
        _do_all(strike.scene.once_it_goes_on)
        if not self._goes_on(attempt) and self._state() is not State.COMPLETED:
            self._resume(strike)

    def _to_the_end(self) -> None:
        while True:
            self._watch(self._over, "the run has not ended", ENDED_S)
            if self._state() is State.COMPLETED:
                return
            if not self.strikes or sum(strike.by_hand for strike in self.strikes) > len(self.strikes):
                raise TrialError(f"the run is {self._state()}: {status(self.run, self._ask).reason}")
            self._resume(self.strikes[-1])

    def _resume(self, strike: Strike) -> None:
        """As its user would; right only where the fault's expectation says so."""
        now = status(self.run, self._ask)
        if not strike.blow.fault.expected.by_hand or strike.by_hand:
            strike.wrong.append(f"the run did not go on by itself: {now.state.value}, {now.reason}")
        if strike.by_hand:
            raise TrialError(f"the run ended again after it was resumed: {now.reason}")
        strike.by_hand = True
        for work in strike.scene.by_user:
            work()
        with self.cluster.steady:
            answer = self._bench.run("resume", self.run.root.name, check=False)
        if answer.returncode != 0:
            raise TrialError(f"resume: {answer.stderr.strip()[-500:]}")

    def _mend(self, strike: Strike) -> None:
        _do_all(strike.scene.mend)

    def _watch(self, condition: Any, what: str, timeout_s: float) -> None:
        """Wait, and put the job forward whenever Slurm holds it back."""

        def look() -> bool:
            self._put_forward()
            return bool(condition())

        wait(look, what, timeout_s, every_s=0.1)

    def _put_forward(self) -> None:
        queued = self._queued()
        if queued is None or queued.state != "PENDING" or queued.reason != "BeginTime" or self._hold:
            self._pending_since = None
            return
        self._pending_since = self._pending_since or time.monotonic()
        if time.monotonic() - self._pending_since > HELD_S:
            self.cluster.start_now(self.job_ids[-1])

    def _queued(self) -> Any:
        job = read_job(self.run)
        if job is None:
            return None
        if job.job_id not in self.job_ids:
            self.job_ids.append(job.job_id)
            self.cluster.look_anew()
        return self.cluster.queued(job.job_id)

    def _ask(self, job: Any) -> QueueState:
        return QueueState.gone if self._queued() is None else QueueState.running

    def _state(self) -> State:
        return status(self.run, self._ask).state

    def _over(self) -> bool:
        """Whether no job carries the run."""
        return self._queued() is None

    def _ended(self, attempt: int) -> bool:
        return self.run.attempt(attempt).outcome.exists() or self._goes_on(attempt)

    def _goes_on(self, attempt: int) -> bool:
        return self.run.attempt(attempt + 1).root.exists()

    def _attempt_at(self, moment: float) -> int:
        """The attempt that had begun last."""
        started = [event for event in read_records(self.run.events) if event["event"] == Event.attempt_started.value]
        # Events are rounded to milliseconds, and the prologue is struck in the one in which it begins.
        return max((int(event["attempt"]) for event in started if event["time"] <= moment + 0.01), default=1)

    def _nodes(self, attempt: int) -> list[str]:
        started = [
            event
            for event in read_records(self.run.events)
            if event["event"] == Event.attempt_started.value and event["attempt"] == attempt
        ]
        return self.cluster.expand(started[0]["nodes"]) if started else []


def _do_all(works: list[Callable[[], None]]) -> None:
    """Each once, however often it is asked for."""
    while works:
        works.pop()()
