"""From files to rows: every kind of file, compressed or not, in pieces that workers read alone.

The door of this room. Importing it costs nothing; pyarrow and datasets are imported where a file needs them.
    unreadable   what is wrong with a source's files, before anything is read
    resolved     a hub source with the files that it stands for
    pieces       sources -> pieces, the same for everybody
    read         a piece -> its rows, or why a row is none
    LineNumbers  numbers of a piece's rows, beside the reading; `told` makes FILE:LINE of one
    where        a row's place -> FILE:LINE; `where_all` for many of one file
Must not know formats, tokens or caches.
"""

from launcher.data.read.cut import pieces
from launcher.data.read.hub import resolved
from launcher.data.read.numbers import LineNumbers, told
from launcher.data.read.piece import Kind, LostRows, Piece, Row
from launcher.data.read.rows import read, row_problem, where, where_all
from launcher.data.read.usable import unreadable

__all__ = [
    "Kind",
    "LineNumbers",
    "LostRows",
    "Piece",
    "Row",
    "pieces",
    "read",
    "resolved",
    "row_problem",
    "told",
    "unreadable",
    "where",
    "where_all",
]
