"""Which layers of a model get adapters. A function of the model's shape alone: training and export agree on it."""

from __future__ import annotations

from typing import Any

import torch

from launcher.config.adapter import ALL_LINEAR, AdapterConfig, ends_with, lies_in
from launcher.errors import Problem, UserError, closest_first

SHOWN = 12


def adapted_layers(model: Any, adapter: AdapterConfig) -> list[str]:
    """Names of the layers that get adapters, in the model's order; UserError where a target is none."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    inner = [name for name, module in linear.items() if module is not head and name not in trained_beside(model)]
    problems, chosen = [], set[str]()
    for target in adapter.targets:
        found = inner if target == ALL_LINEAR else [name for name in linear if ends_with(name, [target])]
        chosen.update(found)
        if not found:
            problems.append(_unmatched("adapter.targets", target, linear, "linear layer"))
        problems += [
            Problem(
                where="adapter.targets",
                message=f"{target!r} shares its weight with another layer, which an adapter on one of them would part",
                remedy=f"leave {target} out",
            )
            for name in found
            if f"{name}.weight" in _tied(model)
        ]
    # Here, where the model's own modules are still known by their names.
    modules = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    problems += [
        _unmatched("adapter.train_also", end, modules, "module with weights")
        for end in adapter.train_also
        if not any(ends_with(name, [end]) for name in modules)
    ]
    problems += [
        Problem(
            where="adapter.train_also",
            message=f"{end!r} shares its weight with another layer",
            remedy=f"name that one: {source.removesuffix('.weight')}",
        )
        for end in adapter.train_also
        for name, source in _tied(model).items()
        if ends_with(name.removesuffix(".weight"), [end])
    ]
    both = [name for name in chosen if lies_in(f"{name}.weight", adapter.train_also)]
    if both:
        words = f"{sorted(both)[0]} would get an adapter and be trained itself"
        problems.append(Problem(where="adapter.train_also", message=words, remedy="name it in one of the two"))
    if problems:
        raise UserError(*problems)
    return [name for name in linear if name in chosen]


def _tied(model: Any) -> dict[str, str]:
    """Second names of weights that layers share, and the first ones."""
    return dict(getattr(model, "all_tied_weights_keys", None) or {})


def trained_beside(model: Any) -> list[str]:
    """The head that an objective put on the model: it comes from no file, and is trained whatever else is."""
    return ["score"] if isinstance(getattr(model, "score", None), torch.nn.Linear) else []


def shortened(names: list[str], model: Any) -> list[str]:
    """The same layers by the ends of their names where no other module ends like them; else as they are."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    like = {name for name, _ in model.named_modules() if ends_with(name, ends)}
    return ends if like == set(names) else names


def _unmatched(where: str, name: str, known: Any, noun: str) -> Problem:
    ends = dict.fromkeys(full.rpartition(".")[2] for full in known)
    nearest = closest_first(name, ends, limit=SHOWN)
    return Problem(where=where, message=f"{name!r} ends the name of no {noun} of the model", valid=", ".join(nearest))
