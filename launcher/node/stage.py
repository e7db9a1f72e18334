"""What the jobs that follow training share: waiting for it, seeing how it ended, and saying what went wrong."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from launcher.checkpoint.lineage import checkpoint_digest, read_provenance
from launcher.cluster.protocol import QueueState
from launcher.errors import ExitCode, LauncherError, Problem, UserError
from launcher.process_id import process_id
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.status import State, status

POLL_S = 1.0


def wait_for(process: str | None) -> None:
    """Until a process of this machine is gone; on Slurm, where none is named, the queue has waited already."""
    while process is not None and process_id(int(process.partition(".")[0])) == process:
        time.sleep(POLL_S)


@contextlib.contextmanager
def told(run: RunDir, failure: Path, event: Event, **fields: str) -> Iterator[None]:
    """What goes wrong in the block is an event and the file `failure`, and the process's exit status."""
    try:
        yield
    except Exception as error:
        known = isinstance(error, LauncherError)
        print(error if known else traceback.format_exc(), file=sys.stderr, flush=True)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        record(run, event, 0, **fields, reason=reason)
        publish_json(failure, {"reason": reason})
        raise SystemExit(int(error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG)) from error


def require_completed(run: RunDir, what: str, remedy: str) -> None:
    """UserError, with how the run ended, unless its training has completed. Its job is known to have ended."""
    now = status(run, lambda job: QueueState.gone)
    if now.state is not State.COMPLETED:
        message = f"{what} to follow its end, and it has not completed ({now.state.value}: {now.reason})"
        raise UserError(Problem(where=f"run {run.root.name}", message=message, remedy=remedy))


def exported(run: RunDir, step: int | None, spare: Path | None) -> Path:
    """A model directory of the checkpoint: the run's export if it is that, or a new one.

    The run's export is made here if there is none. One of another checkpoint, or of averaged weights, is replaced, or,
    where `spare` is another place, left alone.
    """
    from launcher.checkpoint.export import choose, export

    manifest = choose(run, RunPlan.load(run.plan), step, say)
    said = read_provenance(run.export)
    digest = checkpoint_digest(run.checkpoints, manifest.step)
    if said is not None and said.get("checkpoint") == digest and said.get("ema_decay") is None:
        return run.export
    return export(run, manifest.step, None, spare if run.export.exists() else None, say, adapter=False)


def say(line: str) -> None:
    """Into the job's log."""
    print(line, file=sys.stderr, flush=True)
