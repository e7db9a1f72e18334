"""Dataclasses as the plain values that JSON and YAML hold; `decode` reads them back."""

from __future__ import annotations

import dataclasses
import functools
from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON values."""
    kind: type = type(value)
    # Most of what a plan holds, and a sweep writes a thousand plans.
    if kind in _ALREADY:
        return value
    names = _names(kind)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


_ALREADY = frozenset((str, int, float, bool, type(None)))


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None
