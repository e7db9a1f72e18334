"""What counts as a secret, and how text loses it before it is written down."""

from __future__ import annotations

import os
import re

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)", re.IGNORECASE)
"""Environment variables whose values must not be written down."""
SHORTEST = 8
"""Values shorter than this are too common in ordinary text to be replaced."""


def redacted(text: str) -> str:
    """`text` with the value of every secret in this process's environment replaced by the variable's name."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, f"<{name}>")
    return text
