"""Which files a path stands for."""

from __future__ import annotations

import glob
from pathlib import Path


def expanded(path: str) -> tuple[str, ...]:
    """The files that the pattern `path` stands for, sorted; itself where it is no pattern, or none matches."""
    if not glob.has_magic(path) or Path(path).exists():
        return (path,)
    # Path.glob wants the pattern split into a folder and the rest.
    found = sorted(name for name in glob.glob(path, recursive=True) if not Path(name).is_dir())  # noqa: PTH207
    return tuple(found) or (path,)
