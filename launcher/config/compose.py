"""Recipe and overrides to one resolved, plain config. Composition happens here, once, on the submitting machine.

Owns the use of Hydra. Knows the schema's names only; what the values mean is the business of `validate`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from launcher.config import store
from launcher.config.cluster import ClusterConfig
from launcher.config.schema import Config
from launcher.config.search import SearchPath
from launcher.config.survival import HealthConfig
from launcher.decode import BROKEN, read
from launcher.errors import Problem, UserError, closest_first
from launcher.plain import plain
from launcher.remember import remembered

BASE = "launcher"
"""The values behind every recipe, which no recipe needs to be named for."""
SAMPLING = "sweep"
"""How a sweep's members are drawn; no part of any run's config."""
REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""What composing raises when a person made a mistake, in a file or on the command line (ValueError: `zero=3`)."""

_STUMBLES = (AssertionError, AttributeError, KeyError, TypeError)
"""What Hydra itself fails with over a choice without a group, and the like."""

OPEN_MAPPINGS = tuple(
    f"{mapping}{sign}"
    for mapping in ("cluster.environment", "deepspeed.extra", "objective.options", "evaluate.answers.by_set")
    for sign in ".="
)
"""How overrides begin whose keys the user makes up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Composed:
    """What came of composing: a config, and whatever is wrong with it."""

    config: Config | None
    """None where the problems leave nothing to work on."""
    problems: list[Problem]
    """Everything found."""


def compose(recipe: str, overrides: Sequence[str], search: SearchPath) -> Composed:
    """Compose `recipe` with `overrides`. Where something is wrong, `config` holds the rest, for further checks."""
    search.require_recipe(recipe)
    foreign = [text for text in overrides if text.lstrip("+~").startswith("hydra.")]
    if foreign:
        message = "Hydra's own settings have no meaning here: nothing runs through its launcher"
        return Composed(config=None, problems=[Problem(where=text, message=message) for text in foreign])
    overrides = [opened(text) for text in overrides]
    try:
        values = _compose(recipe, overrides, search, typed=True)
    except REFUSALS as error:
        return _explain(recipe, overrides, search, error)
    return decode_config(values)


def opened(text: str) -> str:
    """Hydra wants a + before a key that a mapping does not hold yet; here such keys are what the mapping is for."""
    return f"++{text}" if text.startswith(OPEN_MAPPINGS) else text


def decode_config(values: Any) -> Composed:
    """Plain values as a Config, or every reason why not."""
    problems: list[Problem] = []
    config = read(Config, values, "", problems)
    return Composed(config=None if config is BROKEN else config, problems=problems)


def as_yaml(config: Config) -> str:
    """A file that composes to this config again."""
    return "".join(_yaml_of({key: value}) for key, value in plain(config).items())


@remembered
def _yaml_of(part: dict[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(literal(part)))


def literal(value: Any) -> Any:
    """Plain values as OmegaConf must be given them: what looks like a reference in a text of theirs is none."""
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return _REFERENCE.sub(r"\1\1\\${", value) if isinstance(value, str) else value


_REFERENCE = re.compile(r"(\\*)\$\{")


def parse(text: str, *, sweeps: bool = False) -> Override | Problem:
    """One override in Hydra's grammar; with `sweeps`, it may have several values."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        detail = str(error).splitlines()[1:2] or [str(error)]
        return Problem(
            where=text,
            message=f"this is not an override ({detail[0]})",
            valid="key=value, group=choice, ~key, +key=value",
            remedy="write key=value, with quotes around a value that holds spaces or commas",
        )
    if not override.key_or_group:
        return Problem(where=text, message="there is no key before the =", valid="key=value")
    if override.is_sweep_override() and not sweeps:
        remedy = "give one value, or submit a sweep: `launcher submit RECIPE -m KEY=VALUE,VALUE …`"
        return Problem(where=text, message="this is a sweep over several values", remedy=remedy)
    return override


def group_choice(recipe: str, override: Override, search: SearchPath) -> Any:
    """The values of one group as `group=choice` selects them, composed beside everything else of the recipe."""
    return _compose(recipe, [str(override.input_line)], search, typed=False)[override.key_or_group]


def compose_profile(overrides: Sequence[str], search: SearchPath) -> tuple[ClusterConfig, HealthConfig]:
    """A cluster profile by itself, with the limits that nodes are held to; UserError for what is wrong with either.

    `overrides` choose it (`cluster=NAME`) and change it (`cluster.KEY=VALUE`).
    """
    problems: list[Problem] = []
    for text in overrides:
        override = parse(text)
        if isinstance(override, Problem):
            problems.append(override)
        elif override.key_or_group == "cluster" and override.value() not in search.choices("cluster"):
            problems.append(_no_such_choice(override, search))
        elif override.key_or_group.split(".")[0] != "cluster":
            valid = "cluster=NAME, cluster.KEY=VALUE"
            problems.append(Problem(where=text, message="this is no key of a profile", valid=valid))
    if problems:
        raise UserError(*problems)
    words = [f"++{text.lstrip('+')}" if text.lstrip("+").startswith("cluster.") else text for text in overrides]
    try:
        values = _compose(BASE, words, search, typed=False)
    except REFUSALS as error:
        raise UserError(_in_files(BASE, error)) from error
    cluster = read(ClusterConfig, values["cluster"], "cluster", problems)
    health = read(HealthConfig, values["health"], "health", problems)
    if problems:
        raise UserError(*problems)
    return cluster, health


def sampling_values(search: SearchPath) -> Any:
    """What `conf/sweep.yaml` holds; UserError where that is no config."""
    try:
        return _compose(SAMPLING, [], search, typed=False)
    except REFUSALS as error:
        message = "; ".join(str(error).splitlines()[:1])
        raise UserError(Problem(where=f"conf/{SAMPLING}.yaml", message=message)) from error


def is_group(override: Override, search: SearchPath) -> bool:
    """Whether the override chooses a file of a group instead of setting a value."""
    return override.key_or_group in search.groups() and not isinstance(override.value(), dict)


def _compose(recipe: str, overrides: Sequence[str], search: SearchPath, *, typed: bool) -> Any:
    config = composed_tree(recipe, overrides, search, typed=typed)
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def composed_tree(recipe: str, overrides: Sequence[str], search: SearchPath, *, typed: bool) -> DictConfig:
    """What Hydra makes of it, interpolations unresolved; one of `REFUSALS` where it refuses."""
    store.register(typed=typed)
    with _hydra(search.conf + search.recipes), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = hydra_compose(recipe, overrides=list(overrides))
        except _STUMBLES as error:
            said = str(error).splitlines()[:1]
            words = f"Hydra cannot read a defaults list or an override ({': '.join([type(error).__name__, *said])})"
            raise HydraException(words) from error
    assert isinstance(config, DictConfig)
    return config


@contextmanager
def _hydra(folders: Sequence[Path]) -> Iterator[None]:
    # initialize_config_dir takes one folder and Hydra's searchpath override cannot quote every path, so the search
    # path is built as Hydra builds it.
    path = create_config_search_path(str(folders[0]))
    for folder in folders[1:]:
        # Hydra insists on its store of schemas being last.
        path.prepend(provider="launcher", path=f"file://{folder}", anchor="schema")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name="launcher", config_search_path=path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _explain(recipe: str, overrides: Sequence[str], search: SearchPath, error: Exception) -> Composed:
    """Hydra stops at the first mistake; compose again without types, sorting out what is wrong one by one."""
    problems: list[Problem] = []
    usable: list[str] = []
    for text in overrides:
        override = parse(text)
        if isinstance(override, Problem):
            problems.append(override)
        elif is_group(override, search) and override.value() not in search.choices(override.key_or_group):
            problems.append(_no_such_choice(override, search))
        elif is_group(override, search) or override.is_delete():
            usable.append(text)
        else:
            usable.append("++" + text.lstrip("+"))
    try:
        composed = decode_config(_compose(recipe, usable, search, typed=False))
    except REFUSALS as untyped_error:
        if amiss := list(_undeletable(recipe, usable, search)):
            faulty = {problem.where for problem in amiss}
            rest = compose(recipe, [text for text in overrides if text not in faulty], search)
            return Composed(config=rest.config, problems=[*amiss, *rest.problems])
        return Composed(config=None, problems=[*problems, _in_files(recipe, untyped_error)])
    problems += composed.problems
    if not problems:
        problems.append(_in_files(recipe, error))
    return Composed(config=_without_broken(recipe, usable, composed, search), problems=problems)


def _undeletable(recipe: str, overrides: Sequence[str], search: SearchPath) -> Iterator[Problem]:
    """Overrides that are to delete what is not there, or is there with another value."""
    for text in overrides:
        if text.startswith("~"):
            try:
                _compose(recipe, [text], search, typed=False)
            except REFUSALS as error:
                yield refused(text, error, remedy="leave it out")


def _without_broken(recipe: str, usable: list[str], composed: Composed, search: SearchPath) -> Config | None:
    """The config less the overrides that are at fault, so that the checks after this one can speak too."""
    if composed.config is not None:
        return composed.config
    faulty = {problem.where for problem in composed.problems}
    kept = [text for text in usable if text.lstrip("+~").split("=", 1)[0] not in faulty]
    try:
        return decode_config(_compose(recipe, kept, search, typed=False)).config
    except REFUSALS:
        # Some of them make sense only with those that are left out.
        return None


def _no_such_choice(override: Override, search: SearchPath) -> Problem:
    value = str(override.value())
    choices = closest_first(value, search.choices(override.key_or_group), limit=20)
    # `zero=3` is nearer to zero3 than spelling says.
    choices = sorted(choices, key=lambda choice: value not in choice)
    return Problem(
        where=override.key_or_group,
        message=f"{value!r} is not a choice of this group",
        valid=", ".join(choices),
        remedy=f"write {override.key_or_group}={choices[0]}",
    )


def _in_files(recipe: str, error: Exception) -> Problem:
    return refused(f"recipe {recipe!r}", error, remedy="mend the recipe or config file named")


def refused(where: str, error: Exception, remedy: str = "") -> Problem:
    """One of `REFUSALS`, in its own words less those for programmers."""
    cause = error.__cause__
    detail = str(error) if cause is None or str(cause) in str(error) else f"{error}: {cause}"
    lines = [line.strip() for line in detail.splitlines() if line.strip() and "hydra.cc" not in line]
    return Problem(where=where, message="; ".join(lines), remedy=remedy)
