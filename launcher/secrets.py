"""What counts as a secret, and how text loses it before it is written down."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SECRET|SECRET_?KEY|TOKEN|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE
)
"""Environment variables whose values must not be written down: WANDB_API_KEY, HF_TOKEN, AWS_SECRET_ACCESS_KEY, …"""
SHORTEST = 8
"""Values shorter than this are too common in ordinary text to be recognised in it."""


def secret_values() -> Iterator[tuple[str, str]]:
    """Name and value of every secret in this process's environment."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            yield name, value


def redacted(text: str) -> str:
    """`text` with the value of every secret replaced by its variable's name."""
    for name, value in secret_values():
        text = text.replace(value, f"<{name}>")
    return text
