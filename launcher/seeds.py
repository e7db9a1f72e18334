"""Seeds derived from names: whatever needs random numbers gets them as a function of what it is."""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """A seed of 63 bits from its parts; any two lists of parts give unrelated ones."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
