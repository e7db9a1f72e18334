"""Rules for runs that train a part of the weights: adapters, and `model.freeze`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.config.adapter import AdapterKind
from launcher.config.schema import Config, Init
from launcher.errors import Problem


def partial_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with `adapter` and `model.freeze`, and with what else is set beside them."""
    yield from _freeze(config)
    if config.adapter.used:
        yield from _numbers(config)
        yield from _beside(config)
    if config.adapter.kind is AdapterKind.qlora:
        yield from _quantised(config)


def trains_a_part(config: Config) -> bool:
    """Whether some weights stay as they came."""
    return config.adapter.used or bool(config.model.freeze)


def _freeze(config: Config) -> Iterator[Problem]:
    for number, pattern in enumerate(config.model.freeze):
        try:
            re.compile(pattern)
        except re.error as error:
            yield Problem(where=f"model.freeze[{number}]", message=f"{pattern!r} is no regular expression: {error}")
    if config.model.freeze and config.adapter.used:
        yield Problem(
            where="model.freeze",
            message=f"with adapter={config.adapter.kind.value} every weight of the model is frozen anyway",
            remedy="write model.freeze=[], or adapter=full",
        )
    if trains_a_part(config) and config.model.init is Init.random:
        yield Problem(
            where="model.init",
            message="random weights that are not trained lie in no file, and checkpoints hold trained weights only",
            valid="pretrained",
        )


def _numbers(config: Config) -> Iterator[Problem]:
    adapter = config.adapter
    if adapter.r < 1:
        yield Problem(where="adapter.r", message=f"{adapter.r} is not a rank", valid="8, 16, 64, …")
    if adapter.alpha <= 0:
        yield Problem(where="adapter.alpha", message=f"{adapter.alpha} is out of range", valid="more than 0")
    if not 0 <= adapter.dropout < 1:
        yield Problem(where="adapter.dropout", message=f"{adapter.dropout} is out of range", valid="0 to 1, without 1")
    if not adapter.targets:
        yield Problem(
            where="adapter.targets",
            message="no layer gets an adapter",
            valid="all-linear, or names like [q_proj,v_proj]",
        )


def _beside(config: Config) -> Iterator[Problem]:
    adapter, zero = config.adapter, config.zero
    if adapter.dora and zero.stage == 3:
        yield Problem(
            where="adapter.dora",
            message="DoRA reads whole weights of the layers below it in every step, and ZeRO-3 holds parts of them",
            remedy="write zero=zero2, or adapter.dora=false",
        )


def _quantised(config: Config) -> Iterator[Problem]:
    if config.zero.stage == 3:
        yield Problem(
            where="zero.stage",
            message="4-bit weights are not partitioned by ZeRO-3: every rank would load all of them anyway",
            remedy="write zero=zero2, or adapter=lora",
        )
