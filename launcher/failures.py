"""The classes of failure: what a run can die of, and which of them would only happen again.

Owns the names. How a failure is recognised is `runs.diagnosis`; what follows from it is config (`retry`).
"""

from __future__ import annotations

from enum import Enum


class FailureClass(Enum):
    """Why an attempt ended before its work was done."""

    preempted = "preempted"
    """Told to leave (SIGTERM) by the scheduler, not by the user."""
    time_limit = "time_limit"
    """The job's time was up."""
    node_failure = "node_failure"
    """A node died, or did not pass the health check."""
    lost_process = "lost_process"
    """A rank was killed, or crashed without a word."""
    gpu_error = "gpu_error"
    """A device failed: ECC, Xid, illegal access."""
    communication = "communication"
    """Ranks lost each other, or the file system, with nobody known to be dead."""
    hang = "hang"
    """A phase took longer than its limit."""
    out_of_memory = "out_of_memory"
    """GPU memory did not suffice."""
    out_of_host_memory = "out_of_host_memory"
    """Host memory did not suffice."""
    disk_full = "disk_full"
    """A file system took no more."""
    not_a_number = "not_a_number"
    """The loss stopped being a number, or jumped, and could not be rolled back."""
    user_error = "user_error"
    """What was asked for cannot work."""
    bug = "bug"
    """An error that none of the others explains."""


FIRST_STATUS = 80
"""Exit statuses from here on name a class, in the order of the enum: a rank on a full disk can leave no other word."""


def exit_status(failure: FailureClass) -> int:
    """Status with which a rank leaves for this reason."""
    return FIRST_STATUS + list(FailureClass).index(failure)


def failure_by_status(status: int) -> FailureClass | None:
    """The class that an exit status names; None if it names none."""
    classes = list(FailureClass)
    return classes[status - FIRST_STATUS] if 0 <= status - FIRST_STATUS < len(classes) else None


DETERMINISTIC = (
    FailureClass.out_of_memory,
    FailureClass.out_of_host_memory,
    FailureClass.user_error,
)
"""Classes that the same start would only meet again; no policy requeues them."""
