"""Numbers for the rows of a piece, counted in one pass beside the reading.

Owns what a row's number is. Must not know what the rows hold.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from launcher.data.read.piece import BY_OFFSET, Kind, Piece
from launcher.data.read.streams import Damaged, compression, unpacked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BLOCK_BYTES = 1 << 20


def told(path: str, kind: Kind, number: int) -> str:
    """A row's place for a person, by its number in the file."""
    return f"{path}:{number}" if kind in BY_OFFSET else f"{path} row {number}"


class LineNumbers:
    """Numbers the lines of a piece, from 1 and from the piece's own first.

    A kind whose places are numbers of rows already needs no pass: it has no lines to add.
    """

    def __init__(self, piece: Piece) -> None:
        self._counts = piece.kind in BY_OFFSET
        self._lines = 0
        self._position = piece.start
        # A compressed file is one piece, and its size says nothing of what it holds.
        packed = self._counts and compression(Path(piece.path)) is not None
        self._stop = sys.maxsize if packed else piece.stop
        self._stack = contextlib.ExitStack()
        if self._counts:
            self._file = self._stack.enter_context(unpacked(Path(piece.path)))
            if piece.start:
                self._file.seek(piece.start)

    def __enter__(self) -> LineNumbers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number at each of `places`, ascending, none before those of an earlier call."""
        if not self._counts:
            return places
        # Here, because the login machine comes through this room's door and needs no numbers.
        import numpy as np

        numbers = np.zeros(len(places), dtype=np.int64)
        done = 0
        while done < len(places):
            before, start = self._lines, self._position
            breaks = self._pass(int(places[-1]))
            upto = int(np.searchsorted(places, self._position, side="right"))
            numbers[done:upto] = before + np.searchsorted(breaks + start, places[done:upto]) + 1
            done = upto
        return numbers

    def total(self) -> int:
        """How many lines the piece has, blank ones too; 0 where nobody counts them."""
        while self._counts and self._position < self._stop:
            self._pass(self._stop)
        return self._lines

    def _pass(self, until: int) -> npt.NDArray[np.int64]:
        """Go one block on, to `until` at most; where in the block the line breaks are."""
        import numpy as np

        block = b""
        # Damage is told of by who reads the rows.
        with contextlib.suppress(Damaged):
            block = self._file.read(min(_BLOCK_BYTES, until - self._position))
        breaks = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
        # A file that shrinks meanwhile is told of in the end; here it must not be waited for.
        self._position += len(block) or until - self._position
        self._lines += len(breaks)
        return breaks
