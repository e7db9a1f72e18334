"""What draws the answers of a run that learns from its own: decided when it is planned, and kept by every resume."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace

from launcher.config.adapter import AdapterKind
from launcher.config.cluster import Accelerator
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.errors import Problem
from launcher.models.shape import model_shape, parameter_count
from launcher.objectives.protocol import Rollouts, Sampler
from launcher.objectives.registry import KEY as OPTIONS
from launcher.objectives.registry import objective_of
from launcher.plan.site import host_python

KEY = f"{OPTIONS}.sampler"
PARALLEL = f"{OPTIONS}.vllm_tensor_parallel"
_INSTEAD = f"{KEY}=transformers"
_WEIGHTS_SHARE = 0.8
"""Of what vLLM may take; the rest is for keys, values and what a pass leaves behind."""


def with_sampler(config: Config) -> Config | list[Problem]:
    """The config with vLLM or transformers in place of `auto`; what is wrong where vLLM was asked for."""
    asks = objective_of(config).needs.rollouts
    shape = model_shape(config.model)
    # A model that cannot be read is told of elsewhere.
    if asks is None or asks.sampler is Sampler.transformers or isinstance(shape, Problem):
        return config
    problems = list(_refusals(config, asks, shape))
    if asks.sampler is Sampler.vllm:
        return problems or config
    takes = not problems and _on_gpus(config) and _here(config) and _installed()
    chosen = Sampler.vllm if takes else Sampler.transformers
    options = {**config.objective.options, "sampler": chosen.value}
    return replace(config, objective=replace(config.objective, options=options))


def _on_gpus(config: Config) -> bool:
    """Whether ranks compute on GPUs for certain."""
    return config.cluster.accelerator is Accelerator.cuda


def _here(config: Config) -> bool:
    """Whether ranks run in the environment of this process; of another nothing is known."""
    return config.cluster.software.image is None and host_python(config.cluster) == sys.executable


def _installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _refusals(config: Config, asks: Rollouts, shape: ShapeConfig) -> Iterator[Problem]:
    """Why vLLM cannot."""
    if asks.sampler is Sampler.vllm and _here(config) and not _installed():
        install = f"pip install vllm there, or {_INSTEAD}"
        yield Problem(where=KEY, message=f"vLLM is not installed in {sys.prefix}", remedy=install)
    if config.adapter.kind is AdapterKind.qlora:
        message = "vLLM is given whole weights, and those of adapter=qlora are held in 4 bits"
        yield Problem(where=KEY, message=message, remedy=f"adapter=lora, or {_INSTEAD}")
    if shape.experts is not None:
        message = "a mixture of experts has other weights in vLLM than in training, one by one instead of together"
        yield Problem(where=KEY, message=message, remedy=_INSTEAD)
    yield from _parallel(config, asks, shape)


def _parallel(config: Config, asks: Rollouts, shape: ShapeConfig) -> Iterator[Problem]:
    ways, gpus = asks.vllm_tensor_parallel, config.cluster.gpus_per_node
    valid = [n for n in range(1, gpus + 1) if gpus % n == 0 and shape.num_attention_heads % n == 0]
    if ways not in valid:
        message = f"{ways} do not divide {gpus} GPUs of a node and {shape.num_attention_heads} attention heads"
        yield Problem(where=PARALLEL, message=message, valid=", ".join(map(str, valid)))
        return
    if not _on_gpus(config):
        return
    room = _WEIGHTS_SHARE * asks.vllm_memory * config.cluster.gpu_memory_gb
    whole = parameter_count(shape) * (4 if config.precision.dtype is Dtype.fp32 else 2) / 2**30
    if whole / ways > room:
        enough = [f"{PARALLEL}={n}" for n in valid if whole / n <= room][:1]
        share = whole / ways / _WEIGHTS_SHARE / config.cluster.gpu_memory_gb
        more = [f"{OPTIONS}.vllm_memory={share + 0.005:.2f}"] if share < 1 else []
        message = f"{whole / ways:.0f} GiB of weights a GPU, and vllm_memory={asks.vllm_memory:g} leaves {room:.0f}"
        would = " or ".join([*enough, *more])
        yield Problem(where=f"{OPTIONS}.vllm_memory", message=message, valid=would, remedy=_INSTEAD)
