"""What DeepSpeed compiles on first use, compiled before a run waits for it. `python -m launcher.node.warm_up`.

Without it the first ranks on a machine wait up to a minute for each other's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from pathlib import Path

LONG_S = 120.0
"""Longer than these small ops take to compile."""


def own_extensions() -> None:
    """Give this environment a folder of its own for compiled ops, and let its own ninja compile them.

    torch keeps one folder for all environments of a user and compiles again whenever the include paths differ: two
    environments in turn would compile at every start, and at the same time would trip over each other. ninja compiles
    again what another version of it has compiled, so one that PATH has by chance must not take turns with this
    environment's.
    """
    own, path = str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join((own, path))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Images share their prefix, and often the home of whoever runs them.
    key = hashlib.sha256((sys.prefix + os.environ.get("LAUNCHER_IMAGE", "")).encode()).hexdigest()[:12]
    folder = cache / "torch_extensions" / f"launcher-{key}"
    if os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(folder)) == str(folder):
        drop_dead_locks(folder)


def drop_dead_locks(folder: Path) -> None:
    """Remove locks of compilers that were killed: torch waits for a lock file for ever, whoever left it."""
    for lock in folder.glob("*/lock"):
        try:
            old = time.time() - lock.stat().st_mtime > LONG_S
        except FileNotFoundError:
            continue
        # A compiler on another machine with the same home is not seen here; it has had its time.
        if old and not _compiled_in(lock.parent):
            lock.unlink(missing_ok=True)


def _compiled_in(folder: Path) -> bool:
    """Whether a process of this machine works in the folder, as ninja and the compiler do."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                return True
    return False


def main() -> None:
    """Build and load DeepSpeed's shared-memory communication op; nothing to do where there are GPUs."""
    own_extensions()
    import torch

    if torch.cuda.is_available():
        return
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load()


if __name__ == "__main__":
    main()
