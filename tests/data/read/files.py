"""Files of every kind, made on the spot, and what is read of them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from launcher.data.read import Row, pieces, read
from launcher.data.source import Source

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def _as_csv(rows: Sequence[dict[str, Any]], delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _as_arrow(rows: Sequence[dict[str, Any]], suffix: str, batch: int) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(list(rows))
    if suffix == ".parquet":
        pq.write_table(table, sink, row_group_size=batch)
    else:
        # Feather is the file form; what `datasets` writes is the stream.
        new = pa.ipc.new_stream if suffix == ".arrow" else pa.ipc.new_file
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=batch)
    return sink.getvalue().to_pybytes()


def encoded(rows: Sequence[dict[str, Any]], suffix: str, batch: int = 3) -> bytes:
    """The rows as a file with this suffix holds them, uncompressed."""
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    if suffix == ".txt":
        return "".join(row["text"] + "\n" for row in rows).encode()
    if suffix in (".csv", ".tsv"):
        return _as_csv(rows, "," if suffix == ".csv" else "\t")
    return _as_arrow(rows, suffix, batch)


def source_of(*paths: Path, **changes: Any) -> Source:
    return Source(name="rows", paths=tuple(str(path) for path in paths), **changes)


def rows_of(*paths: Path, piece_bytes: int = 1 << 20, **changes: Any) -> list[Row]:
    source = source_of(*paths, **changes)
    return [row for piece in pieces([source], piece_bytes) for row in read(piece, source)]


def values_of(*paths: Path, **changes: Any) -> list[dict[str, Any] | None]:
    return [row.value for row in rows_of(*paths, **changes)]
