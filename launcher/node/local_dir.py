"""A folder on the node's own disk, for what no other node needs to see."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from launcher.errors import Problem, UserError

VARIABLE = "LAUNCHER_LOCAL_DIR"
"""Set by the batch script, from cluster.local_dir."""


def use_local_dir() -> None:
    """Put temporary files and compiled kernels there, where the profile names it; before anything is imported for them.

    UserError if this node has no such folder and none can be made.
    """
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        message = f"{folder} cannot be made on this node ({error.strerror})"
        raise UserError(
            Problem(where="cluster.local_dir", message=message, valid="a folder on each node's disk")
        ) from error
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ.setdefault("TRITON_CACHE_DIR", str(Path(folder) / "triton"))
