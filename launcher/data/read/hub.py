"""Data sets of the Hugging Face hub: fetched once, then read from the Arrow files in the cache.

Runs no code of a data set's author. Does without the network where HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.data.source import Hub, Source
from launcher.errors import Problem, UserError

_MOST_REASON_CHARS = 300


def resolved(source: Source) -> Source:
    """The source with the paths of its files, fetched now unless they are in the cache; as it is if it has files.

    UserError where there is no such data set, subset, split or revision, or no way to the hub.
    """
    if source.hub is None or source.paths:
        return source
    if "[" in source.hub.split:
        remedy = "name the whole split, and how many rows of it with `limit`"
        raise UserError(_problem(source.hub, f"{source.hub.split!r} is a part of a split", remedy=remedy))
    try:
        loaded = _load(source.hub)
    except Exception as error:  # datasets raises anything from OSError to KeyError here
        raise UserError(_problem(source.hub, _reason(error), remedy=_remedy(source.hub, error))) from error
    paths = tuple(file["filename"] for file in loaded.cache_files)
    if not paths:
        raise UserError(_problem(source.hub, "it has no rows", remedy="check the split"))
    return dataclasses.replace(source, paths=paths)


def _load(hub: Hub) -> Any:
    """The data set, memory-mapped from the cache."""
    import datasets

    return datasets.load_dataset(hub.name, hub.config, split=hub.split, revision=hub.revision, keep_in_memory=False)


def _problem(hub: Hub, reason: str, *, remedy: str) -> Problem:
    return Problem(where=f"hub data set {hub.name}", message=reason, remedy=remedy)


def _reason(error: Exception) -> str:
    """What the library says, on one line; it may be pages, and the list of valid names comes early."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MOST_REASON_CHARS else text[:_MOST_REASON_CHARS] + "…"


def _remedy(hub: Hub, error: Exception) -> str:
    if isinstance(error, OSError):
        call = f"datasets.load_dataset({hub.name!r}, {hub.config!r}, split={hub.split!r}, revision={hub.revision!r})"
        return f"check the name, and with HF_HOME on the shared file system run {call} where there is a network"
    return "check the name, subset, split and revision"
