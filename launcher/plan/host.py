"""What a node's host memory holds of the states, beside the processes' own. Pure."""

from __future__ import annotations

from launcher.config.optimisers import state_bytes
from launcher.config.schema import Config, Dtype
from launcher.objectives.protocol import Sampler
from launcher.objectives.registry import objective_of
from launcher.plan.lead import checkpoint_bytes
from launcher.runplan import Memory

_OFFLOADED_BYTES, _PARAMETER_BYTES = 8, 2
"""Of a trained parameter, beside its states: master copy and gradient, in fp32; of any, in half precision."""


def offloaded_gb(config: Config, memory: Memory, nodes: int) -> float:
    """GB of states that lie in host memory instead of on the GPUs."""
    states = (_OFFLOADED_BYTES + state_bytes(config.optim)) * memory.trained if config.zero.offload_optimizer else 0
    parameters = _PARAMETER_BYTES * memory.parameters if config.zero.offload_param else 0
    return (states + parameters) / nodes / 1e9


def copy_gb(config: Config, memory: Memory, nodes: int) -> float:
    """GB of the copy that a checkpoint is written from while training goes on; it is kept from one to the next."""
    return checkpoint_bytes(config, memory) / nodes / 1e9 if config.checkpoint.asynchronous else 0


def asleep_gb(config: Config, memory: Memory) -> float:
    """GB of weights that vLLM's engines on a node keep there while they sleep."""
    asks = objective_of(config).needs.rollouts
    if asks is None or asks.sampler is not Sampler.vllm:
        return 0
    engines = config.cluster.gpus_per_node / asks.vllm_tensor_parallel
    return engines * memory.parameters * (4 if config.precision.dtype is Dtype.fp32 else 2) / 1e9


def host_gb(config: Config, memory: Memory, nodes: int) -> float:
    """All of it."""
    return offloaded_gb(config, memory, nodes) + copy_gb(config, memory, nodes) + asleep_gb(config, memory)


def too_little(config: Config, memory: Memory, nodes: int) -> bool:
    """Whether a node is asked for less; of a cluster that gives no figure nothing is known."""
    limit = config.cluster.node_memory_gb
    return bool(limit) and host_gb(config, memory, nodes) > float(limit or 0)
