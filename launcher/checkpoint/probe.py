"""probe.json: what a trained model said of a few fixed tokens, for exports to be held against. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass

from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import RunDir

TOKENS = 16
MOST_OUTPUTS = 4096
"""Of a vocabulary of 128k, every 32nd."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A question that needs no data, and training's answer."""

    step: int
    """Optimiser steps done."""
    ids: list[int]
    """The tokens."""
    every: int
    """Of the outputs at the last token, each so manyth is here, from the first on."""
    outputs: list[float]
    """These, fp32."""

    def write(self, run: RunDir) -> None:
        """Publish it in the run directory."""
        publish_json(run.probe, plain(self))


def read_probe(run: RunDir) -> Probe | None:
    """The run's; None if it has not ended well yet, or is older than probes."""
    try:
        return decode(Probe, json.loads(run.probe.read_text(encoding="utf-8")))
    except (OSError, ValueError, AssertionError):
        return None


def probe_ids(vocabulary: int) -> list[int]:
    """Tokens from all over the vocabulary, the same for every model of its size."""
    return [(7919 * place + 17) % vocabulary for place in range(TOKENS)]


def stride(width: int) -> int:
    """Of so many outputs, each how manyth is kept."""
    return -(-width // MOST_OUTPUTS)
