"""Events, times and sizes as a person would tell them. Text only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from launcher.runs.events import Event

TEXTS = {
    Event.submitted: "submitted as job {job_id}",
    Event.data_prepared: "data prepared in {duration}: {rows} rows, {tokens} tokens",
    Event.data_failed: "data could not be prepared: {reason}",
    Event.attempt_started: "attempt {attempt} started on {host}",
    Event.training_started: "training from step {step} of {total_steps} on {world_size} ranks",
    Event.compared: "the untrained model has seen {samples} samples of {set}",
    Event.checkpoint: "checkpoint at step {step}",
    Event.save_failed: "checkpoint at step {step} could not be written: {reason}",
    Event.passed_over: "checkpoint at step {step} passed over: {reason}",
    Event.recovered: "checkpoint at step {step}, whose writer had died, committed",
    Event.converted: "checkpoint at step {step} converted for {world_size} ranks in {duration}",
    Event.health: "{nodes} healthy, checked in {duration}{bandwidth}",
    Event.unhealthy: "node {node} is unhealthy: {reason}",
    Event.number_warning: "step {step}: {reason}",
    Event.rolled_back: "back to step {step}, skipping the data of steps {first} to {last}: {reason} "
    "(samples in {file})",
    Event.drift_noted: "otherwise than planned, which does not matter: {names}",
    Event.drift_accepted: "otherwise than planned, as accepted: {names}",
    Event.attempt_ended: "attempt {attempt} {state}{failure}: {reason}{advice}",
    Event.node_excluded: "node {node} will be avoided: {reason}",
    Event.requeued: "requeued{excluded}{pause}",
    Event.requeue_failed: "could not be requeued: {reason}",
    Event.postponed: "postponed until {until}",
    Event.cancel_requested: "asked to stop",
    Event.exported: "exported step {step} to {path}",
    Event.export_failed: "the export came to nothing: {reason}",
    Event.stages_submitted: "to follow{after}: {jobs}",
    Event.stages_withdrawn: "withdrawn: {names}",
    Event.eval_submitted: "benchmarks {name} asked for, as job {job_id}",
    Event.evaluated: "benchmarks {name} of step {step} done in {duration}",
    Event.eval_failed: "benchmarks {name} came to nothing: {reason}",
}
"""Every field of an event, and those that `_fields` words."""


def words(event: Mapping[str, Any]) -> str:
    """An event as a person would tell it; its name, where this version does not know it."""
    known = {str(kind.value): text for kind, text in TEXTS.items()}
    name = str(event["event"])
    return known.get(name, name).format_map(_Forgiving({**event, **_fields(event)}))


class _Forgiving(dict[str, Any]):
    """A field that an older version did not write is told as unknown; it is no reason not to tell the rest."""

    def __missing__(self, key: str) -> str:
        return "?"


def _fields(event: Mapping[str, Any]) -> dict[str, str]:
    """What reads better than the bare value."""
    texts = {"state": str(event.get("state", "ended"))}
    failure, advice, excluded = event.get("failure"), event.get("advice"), event.get("excluded")
    texts["failure"] = f" ({spaced(failure)})" if failure else ""
    texts["advice"] = f"; to change: {advice}" if advice else ""
    texts["excluded"] = f", avoiding {_listed(excluded)}" if excluded else ""
    texts["pause"] = ", after a pause" if event.get("action") == "requeue_later" else ""
    bandwidth = event.get("bandwidth_gb_s")
    texts["bandwidth"] = f", all-reduce at {bandwidth:.3g} GB/s" if bandwidth is not None else ""
    if "seconds" in event:
        texts["duration"] = duration(float(event["seconds"]))
    if "until" in event:
        texts["until"] = clock(float(event["until"]))
    if isinstance(event.get("jobs"), Mapping):
        texts["after"] = f" job {event['after']}" if event.get("after") else ""
        texts["jobs"] = ", ".join(f"{name} (job {job})" for name, job in event["jobs"].items())
    for name in ("names", "nodes"):
        if name in event:
            texts[name] = _listed(event[name])
    if isinstance(event.get("nodes"), int):
        texts["nodes"] = counted(event["nodes"], "node")
    return texts


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def spaced(name: str) -> str:
    """A class of failure in a sentence."""
    return name.replace("_", " ")


def counted(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Two units at most: `3 s`, `5 min`, `2 h 05 min`, `3 d 4 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def clock(unix: float) -> str:
    """Day and time here."""
    return time.strftime("%m-%d %H:%M", time.localtime(unix))


def size(count: float) -> str:
    """Bytes in decimal units, as file systems are sold: `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
