from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config.compose import compose
from launcher.config.search import search_path
from launcher.errors import Problem
from launcher.plan.deepspeed import deepspeed_config
from launcher.runplan import Batch

BATCH = Batch(global_batch_size=64, micro_batch_size=4, accumulation=2, data_parallel_size=8, chosen="as set")


def deepspeed(*overrides: str) -> tuple[dict[str, object], list[Problem]]:
    composed = compose("sft_llama3_8b", overrides, search_path(None, Path("/nowhere")))
    assert composed.problems == []
    assert composed.config is not None
    return deepspeed_config(composed.config, BATCH)


def test_the_batch_arithmetic_is_the_plans() -> None:
    config, _ = deepspeed()
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert [config[key] for key in sizes] == [64, 4, 2]


def test_extra_keys_are_merged_also_below_our_own() -> None:
    config, problems = deepspeed(
        "+deepspeed.extra.comms_logger.enabled=true", "+deepspeed.extra.zero_optimization.round_robin_gradients=true"
    )
    assert problems == []
    assert config["comms_logger"] == {"enabled": True}
    zero = config["zero_optimization"]
    assert isinstance(zero, dict)
    assert (zero["round_robin_gradients"], zero["stage"]) == (True, 3)


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("zero_optimization.stage", "zero.stage"),
        ("zero_optimization.offload_optimizer.device", "zero.offload_optimizer"),
        ("optimizer.type", "optim"),
        ("scheduler.type", "schedule"),
        ("checkpoint.load_universal", "checkpoint"),
        ("train_batch_size", "train"),
        ("bf16.enabled", "precision"),
        ("gradient_clipping", "optim"),
    ],
)
def test_a_key_that_other_settings_decide_is_refused_with_what_to_set_instead(key: str, instead: str) -> None:
    _, (problem,) = deepspeed(f"+deepspeed.extra.{key}=1")
    assert f"deepspeed.extra.{key}".startswith(problem.where)
    assert instead in problem.remedy


def test_every_refused_key_is_named() -> None:
    _, problems = deepspeed("+deepspeed.extra.train_batch_size=1", "+deepspeed.extra.scheduler.type=x")
    assert len(problems) == 2
