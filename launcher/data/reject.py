"""Why a row is not trained on: the steps that can reject one, and the error that says so.

Owns the words. Must not know files or how rows are read; callers add the place.
"""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """What a row was rejected by; the name in reports and in the file of rejected rows."""

    broken = "broken"
    """It cannot be read: not JSON, not UTF-8, fields missing or of the wrong type."""
    encoding = "encoding"
    """Its text was decoded wrongly before."""
    empty = "empty"
    """An answer, a prompt or a text without a word."""
    role_order = "role_order"
    """Turns out of order."""
    label = "label"
    """Its label is none of `objective.options.labels`, or no number."""
    template = "template"
    """The chat template refuses it, or leaves out what it says."""
    untrained = "untrained"
    """No token of it would carry loss."""
    overlong = "overlong"
    """More than `data.seq_len` tokens."""
    too_short = "too_short"
    """Fewer than `data.clean.min_tokens` tokens."""
    duplicate = "duplicate"
    """The same words as an earlier row."""
    near_duplicate = "near_duplicate"
    """Nearly the same words as an earlier row."""
    contaminated = "contaminated"
    """Words in common with a held-out row."""


class RowError(ValueError):
    """One row cannot be used; the text is the reason, and callers add the file and line."""

    def __init__(self, reason: str, *, valid: str = "", remedy: str = "", step: Step = Step.broken) -> None:
        super().__init__(reason)
        self.reason = reason
        self.valid = valid
        self.remedy = remedy
        self.step = step
