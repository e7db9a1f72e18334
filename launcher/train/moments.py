"""States of optimisers that keep less than Adam, in a form that DeepSpeed's tools take for Adam's.

DeepSpeed's conversion to another number of ranks knows Adam's states and no others. So a momentum is called `exp_avg`,
and where a moment is missing, there is one zero in its place that looks like as many as there are elements.
"""

from __future__ import annotations

from typing import Any

import torch


def no_moment(parameter: torch.Tensor) -> torch.Tensor:
    """In place of a moment; takes no room."""
    return torch.zeros((), dtype=parameter.dtype, device=parameter.device).expand_as(parameter)


def is_real(moment: torch.Tensor) -> bool:
    """Whether it has a number for each element. Loading may make real zeros of `no_moment`'s."""
    return any(moment.stride())


def one_moment(state: dict[str, Any], parameter: torch.Tensor) -> None:
    """Have a momentum of its own in `state`, a count of steps, and a second moment that takes no room."""
    if "exp_avg" not in state:
        state["step"] = torch.zeros(())
        state["exp_avg"] = torch.zeros_like(parameter)
    squares = state.get("exp_avg_sq")
    if squares is None or is_real(squares):
        state["exp_avg_sq"] = no_moment(parameter)
