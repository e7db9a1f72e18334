"""Which of some names are tasks of lm-evaluation-harness. Looks into its files; no torch.

An index of all its tasks takes many seconds; a look for a few names takes one or two.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Collection, Sequence
from pathlib import Path

PACKAGE = "lm_eval"
NAMED = re.compile(rb"^(?:task|group|tag):[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)


def installed() -> bool:
    """Whether the harness is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def unknown(names: Collection[str]) -> tuple[list[str], Sequence[str]]:
    """Those that the harness does not know, and, if there are any, all that it does know."""
    left = [name for name in names if name not in _named_in_files(names)] if names else []
    if not left:
        return [], ()
    # Some names come from programs and from lists within groups; the harness itself has the last word.
    known = _indexed()
    return [name for name in left if name not in known], known


@functools.cache
def _indexed() -> tuple[str, ...]:
    """Every task, group and tag."""
    from lm_eval.tasks import TaskManager

    return tuple(TaskManager().all_tasks)


def _named_in_files(names: Collection[str]) -> set[str]:
    """Those that a file of the harness names as its task, group or tag."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [] if spec is None else spec.submodule_search_locations or []
    wanted = {name.encode() for name in names}
    seen: set[bytes] = set()
    for place in places:
        for file in (Path(place) / "tasks").rglob("*.yaml"):
            seen |= wanted & set(NAMED.findall(file.read_bytes()))
            if seen == wanted:
                break
    return {name.decode() for name in seen}
