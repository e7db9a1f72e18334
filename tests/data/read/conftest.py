"""Files of every kind, made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.read.files import PACK, encoded

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows, or bytes as they are, to a file of the kind that its name says; the path."""

    def make(name: str, content: Sequence[dict[str, Any]] | bytes, batch: int = 3) -> Path:
        path = tmp_path / name
        packing = path.suffix if path.suffix in PACK else ""
        suffix = Path(path.stem).suffix if packing else path.suffix
        data = content if isinstance(content, bytes) else encoded(content, suffix, batch)
        path.write_bytes(PACK[packing](data))
        return path

    return make
