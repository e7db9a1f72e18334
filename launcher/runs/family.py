"""Which run began with which run's export: the runs as a forest. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def forest(runs: Sequence[str], parents: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every run once, parents before their children, in the order of `runs` otherwise: (branches, run).

    A run whose parent is not among `runs` stands at the left.
    """
    known = set(runs)
    children: dict[str, list[str]] = {}
    roots: list[str] = []
    for run in runs:
        parent = parents.get(run)
        (children.setdefault(parent, []) if parent in known and parent is not None else roots).append(run)
    for root in roots:
        yield "", root
        yield from _below(root, children, "")


def _below(run: str, children: Mapping[str, Sequence[str]], before: str) -> Iterator[tuple[str, str]]:
    below = children.get(run, ())
    for number, child in enumerate(below, start=1):
        last = number == len(below)
        yield before + ("└─ " if last else "├─ "), child
        yield from _below(child, children, before + ("   " if last else "│  "))
