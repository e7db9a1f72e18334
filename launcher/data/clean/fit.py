"""Rows of more than `seq_len` tokens: cut, split, or refused.

Owns what becomes of a row's length. Must not know words or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from launcher.data.reject import RowError, Step
from launcher.data.render.encode import Encoded
from launcher.data.source import DataSpec, Overlong


class Cut(IntEnum):
    """What was done to a row."""

    whole = 0
    truncated = 1
    split = 2


@dataclass(kw_only=True, slots=True)
class Fitted:
    """A row as it is stored."""

    rows: list[Encoded]
    """One; more where it was split."""
    cut: Cut
    """How it came to fit."""
    untrained: int = 0
    """Its split parts that carry no loss, left out."""


def fitted(made: Encoded | RowError | Sequence[Encoded | RowError], spec: DataSpec) -> Fitted:
    """One row as `fit` gives it, or the rows of one example together; RowError where one of them cannot be kept."""
    if isinstance(made, Encoded):
        return fit(made, spec)
    if isinstance(made, RowError):
        raise made
    # Validation has refused to split the rows of an example.
    each = [fitted(row, spec) for row in made]
    return Fitted(rows=[part for one in each for part in one.rows], cut=max(one.cut for one in each))


def fit(row: Encoded, spec: DataSpec) -> Fitted:
    """`row` within `spec.seq_len`; RowError where it is too long or too short, or nothing of it would be trained."""
    length, most = len(row.tokens), spec.seq_len
    if length < spec.clean.min_tokens:
        raise RowError(
            f"{length} tokens, fewer than data.clean.min_tokens={spec.clean.min_tokens}", step=Step.too_short
        )
    if length <= most:
        return Fitted(rows=[row], cut=Cut.whole)
    if spec.overlong in (Overlong.drop, Overlong.stop):
        reason = f"{length} tokens, more than data.seq_len={most}"
        if spec.overlong is Overlong.stop:
            reason += ", and data.overlong=stop"
        raise RowError(reason, step=Step.overlong, remedy="raise data.seq_len, or set data.overlong to drop or cut it")
    starts = {
        Overlong.truncate_right: [0],
        Overlong.truncate_left: [length - most],
        Overlong.split: list(range(0, length, most)),
    }[spec.overlong]
    cut = [_part(row, start, most) for start in starts]
    rows = [part for part in cut if 1 in part.loss]
    if not rows:
        reason = f"no token that carries loss is left of {length} in data.seq_len={most}"
        raise RowError(reason, step=Step.untrained, remedy="raise data.seq_len, or set data.overlong=split")
    done = Cut.split if spec.overlong is Overlong.split else Cut.truncated
    return Fitted(rows=rows, cut=done, untrained=len(cut) - len(rows))


def _part(row: Encoded, start: int, most: int) -> Encoded:
    loss = row.loss[start : start + most]
    # Nothing before it predicts it any more.
    loss[0] = 0
    return Encoded(tokens=row.tokens[start : start + most], loss=loss)
