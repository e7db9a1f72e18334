"""States of optimisers that keep less than Adam, in a form that DeepSpeed's tools take for Adam's.

DeepSpeed's conversion to another number of ranks knows Adam's states and no others. So a momentum is called `exp_avg`,
and where there is no second moment, `exp_avg_sq` is one zero that looks like as many as there are elements.
"""

from __future__ import annotations

from typing import Any

import torch


def one_moment(state: dict[str, Any], parameter: torch.Tensor) -> None:
    """Have a momentum of its own in `state`, a count of steps, and a second moment that takes no room."""
    if "exp_avg" not in state:
        state["step"] = torch.zeros(())
        state["exp_avg"] = torch.zeros_like(parameter)
    squares = state.get("exp_avg_sq")
    # Loading makes real zeros of it, one for each element.
    if squares is None or any(squares.stride()):
        state["exp_avg_sq"] = torch.zeros((), dtype=parameter.dtype, device=parameter.device).expand_as(parameter)
