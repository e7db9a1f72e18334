"""Adafactor (Shazeer & Stern, arXiv:1804.04235, algorithms 4 and 5): second moments of a matrix as one of each row and
one of each column. Without a first moment.

Every rank has all factors, which are few, and only its share of each matrix: sums over rows, columns and whole
parameters are taken over what lies here, and then over the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from launcher.checkpoint.states import FACTORS, factor_sizes
from launcher.train.moments import no_moment
from launcher.train.whole import Layout, Whole

EPS_SQUARE, EPS_SCALE = 1e-30, 1e-3
"""Added to squared gradients; the least scale of a parameter."""
CLIP = 1.0
"""Largest root mean square of an update before it is scaled."""
DECAY = 0.8
"""Of step t, second moments keep 1 - t^-DECAY."""


class Adafactor(torch.optim.Optimizer):
    """The rate is relative: a step is at most `lr` times the root mean square of the parameter."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.layout: Layout = {}
        """Where the parameters lie; to be set before the first step."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every partition that has a gradient, which is used up; collective."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_all(parameter, parameter.grad, group)

    def _step_all(self, parameter: torch.Tensor, update: torch.Tensor, group: dict[str, Any]) -> None:
        wholes, state = self.layout[id(parameter)], self.state[parameter]
        sizes = [factor_sizes(whole.shape) for whole in wholes]
        blocks = [list(_blocks(whole, columns)) for whole, (_, columns) in zip(wholes, sizes, strict=True)]
        if FACTORS not in state:
            state["step"] = torch.zeros(())
            state[FACTORS] = parameter.new_zeros(sum(map(sum, sizes)))
        state["exp_avg"] = state["exp_avg_sq"] = no_moment(parameter)
        state["step"] += 1
        keep = 1 - float(state["step"]) ** -DECAY
        squares = torch.zeros_like(state[FACTORS])
        for here, sums in zip(blocks, _by_parameter(squares, sizes), strict=True):
            for block in here:
                _add_squares(block.of(update), block, *sums)
        _sum_all(squares, wholes)
        for (rows, columns), sums in zip(sizes, _by_parameter(squares, sizes), strict=True):
            if columns:
                sums[0].div_(columns)
                sums[1].div_(rows)
        state[FACTORS].lerp_(squares.add_(EPS_SQUARE), 1 - keep)
        for here, factors in zip(blocks, _by_parameter(state[FACTORS], sizes), strict=True):
            for block in here:
                _divide(block.of(update), block, *factors)
        self._apply_all(parameter, update, group, wholes, blocks)

    def _apply_all(
        self,
        parameter: torch.Tensor,
        update: torch.Tensor,
        group: dict[str, Any],
        wholes: Sequence[Whole],
        blocks: list[list[_Block]],
    ) -> None:
        """Each parameter's update, clipped and scaled by what is true of all of it."""
        norms = parameter.new_zeros(2, len(wholes))
        for number, here in enumerate(blocks):
            for block in here:
                norms[0, number] += torch.linalg.vector_norm(block.of(update)).square_()
                norms[1, number] += torch.linalg.vector_norm(block.of(parameter)).square_()
        _sum_all(norms, wholes)
        counts = norms.new_tensor([torch.Size(whole.shape).numel() for whole in wholes])
        of_update, of_parameter = (norms / counts).sqrt()
        rates = of_parameter.clamp_min(EPS_SCALE) / (of_update / CLIP).clamp_min(1)
        for rate, here in zip(rates, blocks, strict=True):
            for block in here:
                block.of(update).mul_(rate)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A rectangle of a matrix, all of it in this rank's partition; of a vector, some of it as a column."""

    start: int
    """Where it begins in the partition."""
    row: int
    column: int
    """Where it begins in the parameter."""
    rows: int
    columns: int
    """Its size."""

    def of(self, partition: torch.Tensor) -> torch.Tensor:
        """Its elements, as a view."""
        return partition.narrow(0, self.start, self.rows * self.columns).view(self.rows, self.columns)


def _blocks(whole: Whole, columns: int) -> Iterator[_Block]:
    """This rank's share of a parameter: whole rows, and what begins or ends within one."""
    rank = dist.get_rank() if len(whole.places) > 1 else 0
    (start, count), place = whole.places[rank], sum(count for _, count in whole.places[:rank])
    end, columns = place + count, columns or 1
    while place < end:
        row, column = divmod(place, columns)
        rows, width = 1, min(columns - column, end - place)
        if width == columns:
            rows = (end - place) // columns
        yield _Block(start=start, row=row, column=column, rows=rows, columns=width)
        start, place = start + rows * width, place + rows * width


def _by_parameter(factors: torch.Tensor, sizes: list[tuple[int, int]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of rows' and columns', of each parameter; a vector has no columns'."""
    parts = torch.split(factors, [size for pair in sizes for size in pair])
    return zip(parts[::2], parts[1::2], strict=True)


def _add_squares(values: torch.Tensor, block: _Block, rows: torch.Tensor, columns: torch.Tensor) -> None:
    rows.narrow(0, block.row, block.rows).add_(torch.linalg.vector_norm(values, dim=1).square_())
    if columns.numel():
        columns.narrow(0, block.column, block.columns).add_(torch.linalg.vector_norm(values, dim=0).square_())


def _divide(values: torch.Tensor, block: _Block, rows: torch.Tensor, columns: torch.Tensor) -> None:
    """By the root of rows' and columns' product over the mean of rows'; of a vector, by the root of its own."""
    values.mul_(rows.narrow(0, block.row, block.rows).rsqrt().unsqueeze(1))
    if columns.numel():
        values.mul_(columns.narrow(0, block.column, block.columns).rsqrt()).mul_(rows.mean().sqrt())


def _sum_all(sums: torch.Tensor, wholes: Sequence[Whole]) -> None:
    if wholes and len(wholes[0].places) > 1:
        dist.all_reduce(sums)
