"""Compiles what DeepSpeed would compile at the first start of a CPU run. `python -m launcher.node.warm_up`.

Without it the first ranks on a machine wait up to a minute for each other's lock.
"""

from __future__ import annotations

import torch


def main() -> None:
    """Build and load DeepSpeed's shared-memory communication op; nothing to do where there are GPUs."""
    if torch.cuda.is_available():
        return
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load()


if __name__ == "__main__":
    main()
