"""The bytes of a file, unpacked on the way if it is compressed.

Owns compression. Must not know what the bytes mean. Damage is told as `Damaged`, whatever the library calls it.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 20
_UNPACK_BYTES = 64 << 10
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""First bytes of a compressed file: how it is compressed."""
UNDECODED = re.compile("[\udc80-\udcff]")
"""What `characters` makes of bytes that are not UTF-8."""


class Damaged(Exception):
    """Compressed data ends early or makes no sense; the text says which."""


class _Unpacking(io.RawIOBase):
    """Bytes of `inner`, with every library's way of failing turned into `Damaged`."""

    def __init__(self, inner: Any, compression: str) -> None:
        self._inner = inner
        self._compression = compression

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Not `read`: it throws away what it has unpacked when the rest is damaged. pyarrow's `read1` does so too,
            # so it is asked for little at a time.
            data = self._inner.read1(min(len(buffer), _UNPACK_BYTES))
        except EOFError:
            raise Damaged(f"the {self._compression} data ends before it is complete") from None
        # pyarrow's errors are ValueErrors and OSErrors.
        except (OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise Damaged(f"the {self._compression} data is damaged ({error})") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def compression(path: Path) -> str | None:
    """How the file is compressed, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked; seekable only where it is not compressed."""
    packed = compression(path)
    with contextlib.ExitStack() as stack:
        if packed is None:
            yield stack.enter_context(io.BufferedReader(io.FileIO(path), BLOCK_BYTES))
        else:
            raw = stack.enter_context(_Unpacking(_open(path, packed), packed))
            yield stack.enter_context(io.BufferedReader(raw, BLOCK_BYTES))


@contextlib.contextmanager
def characters(path: Path) -> Iterator[io.TextIOWrapper]:
    """The file as UTF-8 text, line ends untouched; bytes that are none become lone surrogates (`UNDECODED`)."""
    with unpacked(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield text


def _open(path: Path, packed: str) -> Any:
    if packed == "zstd":
        import pyarrow

        return pyarrow.input_stream(str(path), compression="zstd")
    if packed == "gzip":
        return gzip.open(path)
    return bz2.open(path) if packed == "bzip2" else lzma.open(path)
