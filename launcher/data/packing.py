"""Which rows share a sequence: best-fit decreasing, window by window.

Owns the assignment. Must not know tokens, files or torch. Every row is packed whole, and exactly once.

Best-fit decreasing puts each row, longest first, where it leaves least room (Johnson et al., "Worst-Case Performance
Bounds for Simple One-Dimensional Packing Algorithms", SIAM J. Comput. 1974; for language models Ding et al., "Fewer
Truncations Improve Language Modeling", 2024).
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from launcher.data.order import Int64Array

WINDOW_ROWS = 1 << 18
"""Rows that are packed among themselves: memory stays flat, and more would fill the sequences no better."""


def pack(lengths: Int64Array, capacity: int) -> tuple[Int64Array, Int64Array]:
    """Rows of one window put into sequences of `capacity` tokens: (rows [len(lengths)], offsets [sequences + 1]).

    Sequence s holds rows[offsets[s]:offsets[s + 1]], ascending; sequences are in the order of their first rows.
    `lengths` are at most `capacity`.
    """
    assert len(lengths) == 0 or 0 < lengths.min() <= lengths.max() <= capacity, "a row does not fit"
    packs: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # keys of `with_room`, ascending
    order = np.argsort(-lengths, kind="stable")
    for row, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        place = bisect_left(rooms, length)
        if place == len(rooms):
            number, room = len(packs), capacity
            packs.append([])
        else:
            room = rooms[place]
            number = with_room[room].pop()
            if not with_room[room]:
                del with_room[room]
                del rooms[place]
        packs[number].append(row)
        left = room - length
        if left:
            if left not in with_room:
                with_room[left] = []
                insort(rooms, left)
            with_room[left].append(number)
    packs = sorted(sorted(rows) for rows in packs)
    offsets = np.cumsum([0, *(len(rows) for rows in packs)], dtype=np.int64)
    return np.array([row for rows in packs for row in rows], dtype=np.int64), offsets
