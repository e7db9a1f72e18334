"""Whether the model keeps packed rows apart, tried before the first step.

Most models do so from the rows' positions (`data.feed.batches`). Some take no notice of positions, or carry a state
from token to token; they would train on what their users took for separate rows, and no loss curve would show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from launcher.data.feed.batches import IGNORED, MicroBatch
from launcher.errors import Problem, UserError
from launcher.models.forward import outputs_of

SHARE = 0.1
"""Of a token's effect on its own row, as much on another's is noise: experts group tokens by what they are beside."""


def refuse_leak_all(model: torch.nn.Module, device: torch.device) -> None:
    """UserError where a row's outputs change with the row before it in its sequence; collective where weights are."""
    model.eval()
    try:
        with torch.no_grad():
            plain, beside, inside = (
                outputs_of(model, _pack(before, own).to(device))[0, -1].float()
                for before, own in (([1, 2, 3], [4, 5, 6]), ([7, 8, 9], [4, 5, 6]), ([1, 2, 3], [7, 5, 6]))
            )
    finally:
        model.train()
    if float((beside - plain).norm()) > SHARE * float((inside - plain).norm()):
        message = "true, but this model lets rows in one sequence see each other"
        raise UserError(Problem(where="data.packing", message=message, remedy="write data.packing=false"))


def _pack(*rows: Sequence[int]) -> MicroBatch:
    """Rows in one sequence, which position ids tell apart."""
    ids = torch.tensor([[token for row in rows for token in row]])
    return MicroBatch(
        input_ids=ids,
        attention_mask=None,
        position_ids=torch.tensor([[place for row in rows for place in range(len(row))]]),
        labels=torch.full_like(ids, IGNORED),
        samples=(),
        row_ids=torch.tensor([[number for number, row in enumerate(rows) for _ in row]]),
        rows=len(rows),
        targets=torch.zeros(len(rows), 0),
    )
