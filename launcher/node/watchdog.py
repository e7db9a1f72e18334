"""A rank that takes too long dumps its stacks and ends, even where no line of Python can run any more.

Both timers live below the interpreter: faulthandler's thread writes the stacks without the GIL, and the kernel's
SIGALRM, left at its default, ends the process. A stopped process does neither, but its peers wait for it and do.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from launcher.config.survival import WatchdogConfig

SLACK = 10.0
"""A step may take so many times as long as the slowest recent one before it counts as stuck."""
RECENT = 50
GRACE_S = 5.0
"""Between the stacks and the end, so that every rank has written its own before the first one is missed."""


class Watchdog:
    """The limits of one rank's phases."""

    def __init__(self, limits: WatchdogConfig, stacks: Path) -> None:
        self._limits = limits
        self._path = stacks
        self._file = open(os.open(stacks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w")  # noqa: SIM115 - held
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._step_began: float | None = None
        self._phase = ""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def start(self) -> None:
        """From here to the first step; how long anything took before says nothing of that."""
        self._steps.clear()
        self._step_began = None
        self._arm("start", self._limits.start_s)

    def step(self) -> None:
        """A step begins, or a batch of an evaluation: the one before is over."""
        now = time.monotonic()
        if self._step_began is not None:
            self._steps.append(now - self._step_began)
        self._step_began = now
        floor = self._limits.step_s
        # The first step compiles and allocates.
        if floor is not None and not self._steps and self._limits.start_s is not None:
            floor = max(floor, self._limits.start_s)
        self._arm("step", None if floor is None else max(floor, SLACK * max(self._steps, default=0.0)))

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """While training waits for a checkpoint; what follows has the limit of a step."""
        self._step_began = None
        self._arm("save", self._limits.save_s)
        yield
        self.step()

    def end(self) -> None:
        """The rank has left its word; only its process is still to end."""
        self._arm("end", self._limits.end_s)

    def off(self) -> None:
        """No limit any more; an empty file of stacks goes."""
        self._arm("off", None)
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _arm(self, phase: str, limit_s: float | None) -> None:
        if phase != self._phase:
            self._phase = phase
            self._file.seek(0)
            self._file.truncate()
            print(f"phase {phase}, limit {limit_s} s, entered {time.strftime('%F %T')}", file=self._file, flush=True)
        if limit_s is None:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            faulthandler.dump_traceback_later(limit_s, file=self._file)
            signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
