"""The same bits every time, on a GPU as on a CPU: without it no run could be held against the one that never died."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from launcher.errors import Problem, UserError

WORKSPACE = ":4096:8"
"""Of cuBLAS: with buffers of its own, no sum depends on which stream came first (NVIDIA, cuBLAS, "Results
reproducibility")."""
NO_OTHER = " does not have a deterministic implementation"
"""How torch says that an operation has no kernel that adds up in one order."""


def require_one_order() -> None:
    """From here on, leave out the kernels that add up in any order, and raise where there is no other.

    It is attention's backward pass that would differ from run to run. torch's memory-efficient one becomes
    deterministic only where torch may not merely warn.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    torch.use_deterministic_algorithms(True)
    # It would also fill fresh memory with NaN, for those who read before they write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def same_bits_every_time() -> Iterator[None]:
    """No kernel that adds up in any order meanwhile, to be entered before the first product on a GPU.

    UserError where an operation has no other.
    """
    require_one_order()
    try:
        yield
    except RuntimeError as error:
        name, found, _ = str(error).partition(NO_OTHER)
        if not found:
            raise
        raise UserError(
            Problem(
                where="train.deterministic",
                message=f"{name.split()[-1]} has no kernel on this device that gives the same bits every time",
                remedy="resume with train.deterministic=false; what is done again after a failure then agrees with "
                "what it replaces as closely as two runs do, not bit for bit",
            )
        ) from error
    finally:
        torch.use_deterministic_algorithms(False)
