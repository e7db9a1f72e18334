"""Being told to stop: a signal sets a flag, and the loop asks at a step boundary, where all ranks agree.

Nothing is saved inside a handler: a ZeRO save is a collective, and the other ranks are somewhere else.
"""

from __future__ import annotations

import signal
from types import FrameType

REASONS = {
    int(signal.SIGTERM): "told to stop (SIGTERM: cancelled or preempted)",
    int(signal.SIGUSR2): "time limit near (SIGUSR2)",
}
"""Signals that stop a run, and why they come."""


class StopFlag:
    """The signal that this rank got, if any."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the first signal; 0 for none."""

    def install(self) -> None:
        """Take over the signals, submitit's handlers included."""
        for number in REASONS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
