"""The job in which a teacher answers a data set's prompts: one process on one node.

`python -m launcher.node.generate_job FOLDER`, or submitit's pickle. Killed or preempted, it goes on where it was.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from launcher.config.schema import Init, ModelConfig
from launcher.errors import ExitCode, LauncherError, Problem, UserError
from launcher.evaluate.generation_request import JOURNAL, PROGRESS, Generated, GenerationRequest
from launcher.models.source import resolve
from launcher.publish import publish_json
from launcher.rundir import EvalDir


def main(folder: str) -> None:
    """Entry of the job. What goes wrong is a file in the folder."""
    os.umask(0o077)
    place = EvalDir(Path(folder))
    try:
        _generate(place)
    except Exception as error:
        known = isinstance(error, LauncherError)
        print(error if known else traceback.format_exc(), file=sys.stderr, flush=True)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        publish_json(place.failure, {"reason": reason})
        raise SystemExit(int(error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG)) from error


def _generate(place: EvalDir) -> None:
    started = time.monotonic()
    request = GenerationRequest.read(place)
    changed = request.changed()
    if changed:
        remedy = f"restore them, or remove {place.root} and ask anew"
        raise UserError(Problem(where=", ".join(changed), message="changed since it was asked about", remedy=remedy))
    model = ModelConfig(
        path=request.teacher,
        revision=request.revision,
        init=Init.pretrained,
        attention=request.attention,
        activation_checkpointing=False,
        freeze=[],
        shape=None,
    )
    teacher = resolve(model, key="--teacher")
    from launcher.evaluate.generate import Generation

    found: Generated = Generation(request, place, teacher).run()
    replace(found, seconds=round(time.monotonic() - started, 1)).write(place)
    # All of it is in the file of answers now.
    for name in (JOURNAL, PROGRESS):
        (place.root / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
