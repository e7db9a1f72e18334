"""The table of `launcher plan --fit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.plan.fit import Fit, Needed, gib_limit, hiding_tokens, sensible, smallest
from launcher.plan.time import computing_flops
from launcher.runplan import Memory, RunPlan

HEAD = ("nodes", "GPUs", "fits with", "micro × acc.", "GiB a GPU", "host GB a node", "GPU-hours", "what does not")
RIGHT = (0, 1, 4, 5, 6)
"""Columns of numbers."""
MEASURED = "*"
"""Behind a number that is no estimate."""


def fit_page(plan: RunPlan, rows: Sequence[Fit]) -> str:
    """Numbers of nodes, what fits on each, why the rest does not, and which are sensible."""
    return "\n".join([*_head(plan), "", *_table(rows), "", *_measured(rows), *_words(plan, rows)])


def _head(plan: RunPlan) -> Iterator[str]:
    config = plan.config
    yield (
        f"{plan.recipe}: {plan.memory.parameters:,} parameters, batches of {config.train.global_batch_size} sequences "
        f"of {config.data.seq_len:,} tokens, {config.precision.dtype.value}"
    )
    yield (
        f"nodes of {config.cluster.gpus_per_node} GPUs with {config.cluster.gpu_memory_gb:g} GiB, of which "
        f"{gib_limit(config):.0f} may be filled"
    )


def _table(rows: Sequence[Fit]) -> Iterator[str]:
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    for row in cells:
        yield "  ".join(
            f"{cell:>{width}}" if column in RIGHT else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def _cells(row: Fit) -> tuple[str, ...]:
    larger = ", ".join(_short(each) for each in row.too_large)
    if row.layout is None or row.memory is None:
        return (f"{row.nodes}", f"{row.ranks}", "nothing", "", "", "", "", larger)
    sizes = f"{row.micro} × {row.accumulation}"
    held = _gib(row.memory), f"{row.host_gb:,.0f}", _hours(row)
    return (f"{row.nodes}", f"{row.ranks}", row.layout.name, sizes, *held, larger)


def _gib(memory: Memory) -> str:
    """Marked where it was measured."""
    return f"{memory.held_gb:,.0f}" + MEASURED * bool(memory.by)


def _measured(rows: Sequence[Fit]) -> Iterator[str]:
    told = [memory for row in rows for memory in (row.memory, *(each.memory for each in row.too_large))]
    names = dict.fromkeys(memory.by for memory in told if memory is not None and memory.by)
    if names:
        yield f"({MEASURED} {', '.join(names)}; counts instead of the estimate.)"


def _hours(row: Fit) -> str:
    """GPU-hours of a thousand steps; more than that where an optimiser works on CPUs, which is not counted."""
    if row.step_s is None or row.layout is None:
        return "?"
    return f"{'> ' * row.layout.offload_optimizer}{1000 * row.step_s * row.ranks / 3600:,.0f}"


def _short(needed: Needed) -> str:
    held = _gib(needed.memory) if needed.host_gb is None else f"{needed.host_gb:,.0f} GB of host memory"
    return f"{needed.layout.name.removeprefix('zero=').replace('zero.', '')}: {held}"


def _words(plan: RunPlan, rows: Sequence[Fit]) -> Iterator[str]:
    least, own = smallest(rows, offloaded=True), smallest(rows, offloaded=False)
    if least is None:
        yield "It fits on none of these. Less memory, in the order in which it costs speed: " + _remedies(plan)
        return
    yield f"fewest: {_nodes(least)}"
    if own is not least:
        yield "fewest without host memory: " + ("none of these" if own is None else _nodes(own))
    good = sensible(rows)
    cluster = plan.config.cluster
    tokens = f"{hiding_tokens(plan.config, 2):,.0f} tokens a GPU and pass"
    if good:
        ends = sorted({good[0].nodes, good[-1].nodes})
        yield f"sensible: {' to '.join(map(str, ends))} node{'s' * (ends[-1] > 1)}"
    else:
        yield f"sensible: none; give each GPU more to do ({_remedies(plan)}, or a larger train.global_batch_size)"
    yield (
        f"(From about {tokens} on, ZeRO-3 between nodes hides its traffic: {computing_flops(cluster) / 1e12:.0f} "
        f"TFLOP/s and {cluster.interconnect_gb_s:g} GB/s a GPU are assumed.)"
    )
    yield "(GPU-hours are of 1,000 steps with rows as long as can be, estimated, without failures.)"


def _nodes(row: Fit) -> str:
    assert row.layout is not None
    return f"{row.nodes} node{'s' * (row.nodes > 1)} ({row.ranks} GPUs): cluster.nodes={row.nodes} {row.layout.name}"


def _remedies(plan: RunPlan) -> str:
    config, words = plan.config, []
    if config.train.micro_batch_size not in ("auto", 1):
        words.append("train.micro_batch_size=auto")
    if not config.model.activation_checkpointing:
        words.append("model.activation_checkpointing=true")
    words += ["a shorter data.seq_len"]
    if not config.adapter.used:
        words.append("adapter=lora")
    return ", ".join(words)
