"""Which objectives there are, by name. Imports none of them, so that the login side can check a name."""

from __future__ import annotations

import importlib
from typing import cast

from launcher.objectives.protocol import Objective

OBJECTIVES = {"sft": "launcher.objectives.sft"}
"""Name to module; each module has `OBJECTIVE`."""


def load(name: str) -> Objective:
    """The objective called `name`; KeyError if there is none (validation has refused it before)."""
    return cast("Objective", importlib.import_module(OBJECTIVES[name]).OBJECTIVE)
