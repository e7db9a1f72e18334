"""Rules of `evaluate.answers`: what can be asked of which rows, and how the answers can be scored. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.config.evaluate import scored_sets
from launcher.config.schema import Config
from launcher.config.sources import HELD_OUT, held_out_sets, source_entries, typed
from launcher.data.source import Format, Learns, Overlong, TrainOn
from launcher.errors import Problem, closest_first
from launcher.evaluate.scores import METRICS
from launcher.objectives import registry

KEY = "evaluate.answers"
_METRICS = f"{KEY}.metrics"


def answers_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the group, and with the rest of the run where answers are scored."""
    asks, sets = config.evaluate.answers, held_out_sets(config.data.eval)
    for name in ("limit", "max_new_tokens", "at_once"):
        value = getattr(asks, name)
        if value is not None and value < 1:
            yield Problem(where=f"{KEY}.{name}", message=f"{value} is out of range", valid="1 or more")
    yield from _names(_METRICS, asks.metrics)
    known = [key.removeprefix(f"{HELD_OUT}_") for key in sets if key != HELD_OUT]
    for key, names in asks.by_set.items():
        where = f"{KEY}.by_set.{key}"
        yield from _names(where, names)
        if key not in known:
            valid = ", ".join(closest_first(key, known)) or f"{_METRICS}=[NAME, …]: data.eval names no sets"
            yield Problem(where=where, message="there is no such held-out set", valid=valid)
    if asks.metrics and not sets:
        remedy = f"name data.eval, or write {_METRICS}=[]"
        yield Problem(where=_METRICS, message="nothing is evaluated (data.eval=null)", remedy=remedy)
    scored = scored_sets(asks, sets)
    if scored:
        yield from _rows(config, list(scored))
    if scored and asks.max_new_tokens >= config.data.seq_len:
        yield Problem(
            where=f"{KEY}.max_new_tokens",
            message=f"{asks.max_new_tokens} leaves nothing of data.seq_len={config.data.seq_len} for the question",
            valid=f"less than {config.data.seq_len}",
        )


def _names(where: str, names: list[str]) -> Iterator[Problem]:
    for name in names:
        if name not in METRICS:
            nearest = ", ".join(closest_first(name, METRICS))
            yield Problem(where=where, message=f"{name!r} is not a metric of answers", valid=nearest)
    if len(set(names)) < len(names):
        yield Problem(where=where, message=f"{names} are not names, each once")


def _rows(config: Config, scored: list[str]) -> Iterator[Problem]:
    """Whether a row is a question and the answer that is looked for."""
    name, data = config.objective.name, config.data
    made = registry.checked(name, config.objective.options, []) if name in registry.names() else None
    nothing = f"ask nothing: {_METRICS}=[]"
    if made is not None and made.needs.head is not None:
        message = f"a model of objective={name} gives numbers, and no answers"
        yield Problem(where=_METRICS, message=message, remedy=nothing)
    elif made is not None and made.needs.learns is not Learns.answers:
        message = f"rows of objective={name} ({made.needs.learns.value}) do not say which answer is looked for"
        yield Problem(where=_METRICS, message=message, remedy=nothing)
    if data.train_on is TrainOn.all:
        message = "what is trained on tells question and answer apart, and data.train_on=all trains on both"
        yield Problem(where=_METRICS, message=message, remedy="write data.train_on=assistant, or " + nothing)
    if data.overlong is Overlong.split:
        message = "data.overlong=split leaves answers without their questions"
        yield Problem(where=_METRICS, message=message, remedy="write data.overlong=drop, or " + nothing)
    for key in scored:
        entries = source_entries(held_out_sets(data.eval)[key], typed(key), [])
        if any((entry.format or data.format) is Format.text for entry in entries):
            message = "its rows are texts, which hold no question to answer"
            yield Problem(where=typed(key), message=message, remedy=f"leave it out: {KEY}.by_set.NAME=[]")
