"""Prompts with the answers of others: what KTO measures how far a model has moved with.

Owns whose answer a prompt gets. Must not know the order, batches or ranks: a row's other answer is the same in every
epoch, however the rows are cut, so that the untrained model needs to be asked once.
"""

from __future__ import annotations

import hashlib

import numpy as np

from launcher.data.tokens import AnyArray, TokenStore


def other(row: int, rows: int) -> int:
    """The row whose answer row `row` of `rows` gets: another one, unless it is the only one; no answer is given twice.

    Not the next: neighbours often answer the same prompt, one well and one badly.
    """
    if rows < 2:
        return row
    drawn = int.from_bytes(hashlib.sha256(str(rows).encode()).digest()[:8], "big")
    return (row + 1 + drawn % (rows - 1)) % rows


def mismatched_row(store: TokenStore, row: int) -> tuple[AnyArray, AnyArray]:
    """Token ids and loss mask of the row's prompt with the other row's answer, cut to the longest a row may be.

    A prompt is what comes before the first trained token, and an answer the rest.
    """
    (ids, trained), (others, others_trained) = store.row(row), store.row(other(row, len(store)))
    prompt, answer = int(np.argmax(trained)), int(np.argmax(others_trained))
    most = int(store.meta.spec["seq_len"])
    made = np.concatenate([ids[:prompt], others[answer:]])[:most]
    mask = np.concatenate([np.zeros(prompt, dtype=np.bool_), others_trained[answer:]])[:most]
    return made, mask
