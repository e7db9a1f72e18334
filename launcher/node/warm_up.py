"""What DeepSpeed compiles on first use, compiled before a run waits for it. `python -m launcher.node.warm_up`.

Without it the first ranks on a machine wait up to a minute for each other's lock.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def own_extensions() -> None:
    """Give this environment a folder of its own for compiled ops.

    torch keeps one folder for all environments of a user and compiles again whenever the include paths differ: two
    environments in turn would compile at every start, and at the same time would trip over each other.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(cache / "torch_extensions" / f"launcher-{key}"))


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
