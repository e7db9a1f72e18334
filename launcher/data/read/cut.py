"""Files cut into pieces: a function of the files and a size alone, so that whoever cuts them again gets the same."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.data.read.columns import Block, arrow_blocks, parquet_blocks
from launcher.data.read.kinds import KindError, kind_of
from launcher.data.read.lines import lines
from launcher.data.read.piece import BY_OFFSET, Kind, Lost, Piece
from launcher.data.read.rows import read
from launcher.data.read.streams import compression
from launcher.data.source import Source, Unit
from launcher.errors import Problem, UserError


def pieces(spec_sources: Sequence[Source], piece_bytes: int) -> list[Piece]:
    """All files in pieces of about `piece_bytes`, in the order of their rows; hub sources are `resolved` before.

    Reads sizes, first bytes and the footers of tables; of a source with a limit, the rows up to there as well. Raises
    UserError for a file of no known kind and for a table whose blocks cannot be told; OSError as opening it.
    """
    found: list[Piece] = []
    for index, source in enumerate(spec_sources):
        assert source.paths, f"{source.name} is not resolved"
        mine = (piece for path in source.paths for piece in _of_file(index, source, Path(path), piece_bytes))
        found += mine if source.limit is None else _first(mine, source, source.limit)
    return found


def _first(mine: Iterator[Piece], source: Source, limit: int) -> Iterator[Piece]:
    """The pieces that the first `limit` rows are in, each told how many of them are left for it."""
    piece = next(mine, None)
    while piece is not None and limit > 0:
        yield dataclasses.replace(piece, most=limit)
        following = next(mine, None)
        # Counting reads the rows, so it is left out where nothing depends on it.
        limit -= _count(piece, source, limit) if following is not None else 0
        piece = following


def _count(piece: Piece, source: Source, most: int) -> int:
    """The rows of a piece, or `most` if there are more."""
    path = Path(piece.path)
    if piece.kind in (Kind.parquet, Kind.arrow):
        return min(most, sum(block.rows for block in _blocks(path, piece.kind)[piece.start : piece.stop]))
    rows = lines(path, piece.start, piece.stop) if piece.kind is Kind.lines else read(piece, source)
    return sum(1 for _ in itertools.islice(rows, most))


def _of_file(index: int, source: Source, path: Path, piece_bytes: int) -> list[Piece]:
    try:
        kind = kind_of(path)
    except KindError as error:
        where = f"the file of {source.name}"
        raise UserError(Problem(where=where, message=error.message, valid=error.valid, remedy=error.remedy)) from None
    size = path.stat().st_size
    whole = Piece(source=index, path=str(path), kind=kind, start=0, stop=size, most=None, size_bytes=size)
    if kind in (Kind.parquet, Kind.arrow):
        return list(_by_blocks(whole, _blocks(path, kind), piece_bytes))
    if kind not in BY_OFFSET or compression(path) or (kind is Kind.text and source.unit is Unit.file):
        return [whole]
    return [
        dataclasses.replace(whole, start=start, stop=stop, size_bytes=stop - start)
        for start, stop in itertools.pairwise([*range(0, size, piece_bytes), size])
    ]


def _blocks(path: Path, kind: Kind) -> list[Block]:
    try:
        return parquet_blocks(path) if kind is Kind.parquet else arrow_blocks(path)
    except Lost as lost:
        remedy = "copy or write the file again"
        raise UserError(Problem(where=f"{path} row {lost.place}", message=lost.reason, remedy=remedy)) from None


def _by_blocks(whole: Piece, blocks: Sequence[Block], piece_bytes: int) -> Iterator[Piece]:
    """Neighbouring blocks together until they are big enough."""
    start, size = 0, 0
    for number, block in enumerate(blocks, start=1):
        size += block.size_bytes
        if size >= piece_bytes or number == len(blocks):
            yield dataclasses.replace(whole, start=start, stop=number, size_bytes=size)
            start, size = number, 0
