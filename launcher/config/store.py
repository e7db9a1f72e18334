"""The schema, registered with Hydra.

Owns the twin of the schema that Hydra works on. OmegaConf turns frozen dataclasses into read-only nodes that refuse
every override, so Hydra gets an unfrozen twin of each class and validation returns the frozen original.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from launcher.config.schema import Config
from launcher.config.search import shipped

SCHEMA = "schema"
"""Name under which conf/launcher.yaml asks for the schema."""


def register(*, typed: bool = True) -> None:
    """Put the schema into Hydra's store; untyped, everything composes and nothing is checked.

    Also makes `${shipped:NAME}` in a recipe mean the file NAME beside the shipped recipes, wherever those are.
    """
    OmegaConf.register_new_resolver("shipped", lambda name: str(shipped("recipes") / name), replace=True)
    ConfigStore.instance().store(SCHEMA, unfrozen(Config) if typed else {})


def unfrozen(cls: type) -> type:
    """A mutable twin of a frozen dataclass, its nested dataclasses included."""
    hints = typing.get_type_hints(cls)
    return dataclasses.make_dataclass(
        cls.__name__, [(field.name, _twin(hints[field.name])) for field in dataclasses.fields(cls)], kw_only=True
    )


def _twin(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return unfrozen(typing.cast("type", hint))
    if typing.get_origin(hint) is list:
        return list[_twin(typing.get_args(hint)[0])]  # type: ignore[misc]
    if typing.get_origin(hint) is types.UnionType:
        members = [_twin(member) for member in typing.get_args(hint)]
        return typing.Union[tuple(members)]  # noqa: UP007 - built from parts
    return hint
