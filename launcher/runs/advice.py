"""What to change about a run that ran out of GPU memory, in its own numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.runplan import Batch, RunPlan


def memory_advice(plan: RunPlan) -> str:
    """Settings that save GPU memory, the cheapest first; what a resume cannot change comes as a new run."""
    ways = [f"submit a new run with {', or '.join(_by_new_run(plan))}"]
    resume = ", or ".join(_by_resume(plan))
    if resume:
        ways.insert(0, f"resume with {resume}")
    return "; or ".join(ways)


def _by_resume(plan: RunPlan) -> Iterator[str]:
    config = plan.config
    smaller = _smaller_micro_batch(plan.batch)
    if smaller is not None:
        yield f"train.micro_batch_size={smaller} (it is {plan.batch.micro_batch_size})"
    if not config.model.activation_checkpointing:
        yield "model.activation_checkpointing=true"
    if config.zero.stage == 3 and not config.zero.offload_optimizer:
        yield "zero=zero3_offload"


def _by_new_run(plan: RunPlan) -> Iterator[str]:
    if plan.config.zero.stage < 3:
        yield f"zero=zero3 (it is stage {plan.config.zero.stage})"
    yield f"a shorter data.seq_len (it is {plan.config.data.seq_len})"
    yield f"more GPUs (they are {plan.topology.world_size})"


def _smaller_micro_batch(batch: Batch) -> int | None:
    """The next smaller micro batch that divides what a rank does in a step."""
    share = batch.global_batch_size // batch.data_parallel_size
    return next((size for size in range(batch.micro_batch_size - 1, 0, -1) if share % size == 0), None)
