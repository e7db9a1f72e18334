"""The job that exports what was trained, where the run asks for that: one process on one node, no GPU.

`python -m launcher.node.export_job FOLDER [JOB]`, or submitit's pickle. It starts however the training ended, and says
what that means for what was to follow; its exit status keeps Slurm from starting benchmarks of nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from launcher.checkpoint.lineage import read_provenance
from launcher.errors import Problem, UserError
from launcher.node.stage import exported, require_completed, told, wait_for
from launcher.publish import publish_json
from launcher.rundir import RunDir, StageDir
from launcher.runs.events import Event
from launcher.runs.job import newest_submission


def main(folder: str, waits_for: str | None = None) -> None:
    """Entry of the job. `waits_for` is a process of this machine."""
    os.umask(0o077)
    place = StageDir(Path(folder))
    run, submission = RunDir(place.root.parents[2]), int(place.root.parent.name)
    wait_for(waits_for)
    with told(run, place.failure, Event.export_failed):
        _require_newest(run, submission)
        require_completed(run, "an export was", f"`launcher resume {run.root.name}` goes on, and queues it again")
        model = exported(run, None, None)
        said = read_provenance(model)
        assert said is not None, "exports say what they are"
        publish_json(place.results, {"step": said["step"], "checkpoint": said["checkpoint"], "path": str(model)})


def _require_newest(run: RunDir, submission: int) -> None:
    newest = newest_submission(run)
    if newest > submission:
        message = f"this export is of submission {submission}, and the run has been submitted again since ({newest})"
        raise UserError(Problem(where=f"run {run.root.name}", message=message))


if __name__ == "__main__":
    # Withdrawn, it leaves nothing half written; on Slurm SIGTERM may also come before the job is requeued.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    main(*sys.argv[1:])
