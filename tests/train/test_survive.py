"""Real ranks are killed, stopped, stuck and told to leave; the run comes back by itself with the same losses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.workbench import Bench, held_out, losses

pytestmark = pytest.mark.train

OVERRIDES = [
    "train.max_steps=12",
    "train.eval_every=4",
    "checkpoint.every_steps=4",
    "watchdog.step_s=3",
    "watchdog.save_s=3",
    "watchdog.end_s=3",
    "retry.pause_s=1",
]


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Path:
    """The run that nothing happened to."""
    return bench.train(*OVERRIDES)


@dataclass(frozen=True)
class Broken:
    """A run that something happened to."""

    run: Path
    status: dict[str, Any]

    @property
    def ends(self) -> list[dict[str, Any]]:
        """How its attempts ended."""
        return [event for event in read_records(self.run / "events.jsonl") if event["event"] == "attempt_ended"]


def broken(bench: Bench, faults: list[dict[str, Any]], *overrides: str) -> Broken:
    """Train with faults, to whichever end."""
    folder = bench.root / "faults" / str(len(list((bench.root / "runs").glob("*"))))
    folder.mkdir(parents=True)
    for number, fault in enumerate(faults):
        (folder / f"{number}.json").write_text(json.dumps({"step": None, "rank": None, **fault}))
    faulty = replace(bench, environment={**bench.environment, "LAUNCHER_FAULTS": str(folder)})
    faulty.run("submit", *bench.base, *OVERRIDES, *overrides, "--follow", check=False)
    assert not list(folder.glob("*.json")), "a fault never struck"
    run = bench.last()
    return Broken(run=run, status=json.loads(bench.run("status", run.name, "--json").stdout))


@pytest.mark.parametrize(
    ("point", "step", "rank", "action", "failure", "lost"),
    [
        ("data", 6, 1, "hang", "hang", None),
        ("step", 7, 1, "gpu_error", "gpu_error", 2),
        ("step", 7, 0, "communication", "communication", 2),
        ("evaluate", 8, 1, "term", "preempted", 0),
        ("start", None, 0, "usr2", "time_limit", 0),
    ],
)
def test_a_run_that_can_go_on_does_so_by_itself_with_the_same_losses(
    bench: Bench, straight: Path, point: str, step: int | None, rank: int, action: str, failure: str, lost: int | None
) -> None:
    found = broken(bench, [{"point": point, "step": step, "rank": rank, "action": action}])
    assert found.status["state"] == "COMPLETED"
    assert [end["failure"] for end in found.ends] == [failure, None]
    assert (losses(found.run), held_out(found.run)) == (losses(straight), held_out(straight))
    if lost is not None:
        assert found.status["lost_steps"] == lost


@pytest.mark.parametrize(
    ("action", "failure"),
    [
        ("out_of_memory", "out_of_memory"),
        ("host_memory", "out_of_host_memory"),
        ("bug", "bug"),
        ("disk_full", "disk_full"),
    ],
)
def test_what_would_only_happen_again_is_not_started_again(bench: Bench, action: str, failure: str) -> None:
    found = broken(bench, [{"point": "step", "step": 6, "rank": 1, "action": action}])
    assert found.status["state"] == "FAILED"
    assert [(end["failure"], end["action"]) for end in found.ends] == [(failure, "stop")]
    assert found.ends[0]["advice"]


def test_three_attempts_without_a_checkpoint_are_the_last(started: Bench) -> None:
    killed = [{"point": "step", "step": 2, "rank": 0, "action": "kill"} for _ in range(3)]
    found = broken(started, killed)
    assert found.status["state"] == "FAILED"
    # On one machine there is no other node to go to.
    assert [end["action"] for end in found.ends] == ["requeue", "requeue", "stop"]


def test_a_stuck_end_costs_nothing(started: Bench, straight: Path) -> None:
    found = broken(started, [{"point": "end", "rank": 1, "action": "hang"}])
    assert found.status["state"] == "COMPLETED"
    assert [end["failure"] for end in found.ends] == [None]
    assert losses(found.run) == losses(straight)


def test_a_loss_that_is_not_a_number_goes_back_and_skips_the_data_that_did_it(bench: Bench, straight: Path) -> None:
    found = broken(bench, [{"point": "loss", "step": 6, "rank": 1, "action": "poison"}])
    assert found.status["state"] == "COMPLETED"
    assert [end["failure"] for end in found.ends] == [None]
    event = next(item for item in read_records(found.run / "events.jsonl") if item["event"] == "rolled_back")
    assert (event["step"], event["first"], event["last"]) == (4, 4, 5)
    skipped = json.loads((found.run / event["file"]).read_text())
    assert [len(rows) for rows in skipped["steps"].values()] == [8, 8]
    same = [step for step in range(1, 13) if losses(found.run)[step] == losses(straight)[step]]
    assert same == [1, 2, 3, 4]
    # Later attempts know of it: a run stopped after its rollback goes on as one that was not.
    stopped = broken(
        bench,
        [
            {"point": "loss", "step": 6, "rank": 1, "action": "poison"},
            {"point": "step", "step": 10, "rank": 1, "action": "kill"},
        ],
    )
    assert losses(stopped.run) == losses(found.run)


def test_numbers_that_go_wrong_too_often_end_the_run(bench: Bench) -> None:
    poison = {"point": "loss", "step": 6, "rank": 0, "action": "poison"}
    found = broken(bench, [poison, poison], "guard.max_rollbacks=1")
    assert found.status["state"] == "FAILED"
    assert [(end["failure"], end["action"]) for end in found.ends] == [("not_a_number", "stop")]
