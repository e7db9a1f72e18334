"""Which numbers of nodes a run fits on, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.config.schema import Config, ShapeConfig
from launcher.config.validate import validate
from launcher.plan.host import host_gb, too_little
from launcher.plan.memory import MARGIN, most_that_fit
from launcher.plan.pace import step_tokens
from launcher.plan.peaks import Peaks, memory_of
from launcher.plan.time import Setting, computing_flops, link_bytes_per_s, step_s
from launcher.runplan import Memory, Topology

MOST_NODES = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How states are spread."""

    name: str
    """As one writes it."""
    stage: int
    """ZeRO."""
    offload_optimizer: bool = False
    """Master copies and moments in host memory."""
    offload_param: bool = False
    """Parameters as well."""


LAYOUTS = (
    Layout(name="zero=zero1", stage=1),
    Layout(name="zero=zero2", stage=2),
    Layout(name="zero=zero3", stage=3),
    Layout(name="zero=zero3 zero.offload_optimizer=true", stage=3, offload_optimizer=True),
    Layout(name="zero=zero3_offload", stage=3, offload_optimizer=True, offload_param=True),
)
"""In the order in which they cost speed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """A layout that does not fit, and what it would hold with the fewest sequences at a time."""

    layout: Layout
    memory: Memory
    """Of a GPU."""
    host_gb: float | None
    """Of a node's host memory, GB, where that is what it lacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """One number of nodes."""

    nodes: int
    """Machines."""
    ranks: int
    """GPUs on all of them."""
    layout: Layout | None
    """The fastest that fits; None where none does, or the batch cannot be spread."""
    micro: int
    """Most sequences at a time; 0 without a layout."""
    accumulation: int
    """Micro batches a step."""
    memory: Memory | None
    """Of a GPU."""
    host_gb: float
    """Of a node's host memory, GB: what is offloaded, and the copy that a checkpoint is written from."""
    too_large: tuple[Needed, ...]
    """Faster layouts that do not fit."""
    step_s: float | None
    """A step of full rows, seconds, as far as it can be estimated; None without a layout, or a peak to reckon with."""
    enough_work: bool
    """Whether a pass computes for as long as stage 3 takes to fetch the model."""


def table(config: Config, shape: ShapeConfig, frozen: int, peaks: Peaks) -> list[Fit]:
    """A row for each number of nodes that the global batch can be spread over: powers of two, and the config's own.

    Where `peaks` has what an earlier run held, that counts instead of the estimate.
    """
    numbers = {1 << power for power in range(MOST_NODES.bit_length())} | {config.cluster.nodes}
    batch, per_node = config.train.global_batch_size, config.cluster.gpus_per_node
    spread = [nodes for nodes in sorted(numbers) if batch % (nodes * per_node) == 0]
    layouts = [layout for layout in LAYOUTS if not validate(_with(config, layout))]
    return [_row(config, shape, frozen, nodes, layouts, peaks) for nodes in spread]


def tentative(config: Config) -> Config:
    """A config whose layout is to be chosen, with one that is allowed, for all that does not depend on which.

    Where something else is wrong, with one that adds nothing to it.
    """
    return min((_with(config, layout) for layout in reversed(LAYOUTS)), key=lambda laid: len(validate(laid)))


def settled(config: Config, shape: ShapeConfig, frozen: int, peaks: Peaks) -> tuple[Config, str]:
    """The config with the layout that costs least speed among those that fit on its nodes, and why it is that one.

    Where none fits, with the one that holds least.
    """
    layouts = [layout for layout in LAYOUTS if not validate(_with(config, layout))]
    row = _row(config, shape, frozen, config.cluster.nodes, layouts, peaks)
    larger = ", ".join(_too_large(needed) for needed in row.too_large)
    if row.layout is None or row.memory is None:
        return _with(config, layouts[-1]), f"auto: nothing fits; {larger}"
    why = "; ".join(words for words in (f"auto: {row.layout.name}", row.memory.by, larger) if words)
    return _with(config, row.layout), why


def _too_large(needed: Needed) -> str:
    if needed.host_gb is not None:
        return f"{needed.layout.name} {needed.host_gb:,.0f} GB of host memory a node"
    if needed.memory.measured_gb is None:
        return f"{needed.layout.name} would take {needed.memory.total_gb:.0f} GiB"
    return f"{needed.layout.name} took {needed.memory.held_gb:.0f} GiB ({needed.memory.by})"


def _with(config: Config, layout: Layout) -> Config:
    """The config with that layout, which is no longer to be chosen."""
    zero = replace(
        config.zero,
        auto=False,
        stage=layout.stage,
        offload_optimizer=layout.offload_optimizer,
        offload_param=layout.offload_param,
    )
    return replace(config, zero=zero)


def _row(config: Config, shape: ShapeConfig, frozen: int, nodes: int, layouts: Sequence[Layout], peaks: Peaks) -> Fit:
    topology = Topology(nodes=nodes, ranks_per_node=config.cluster.gpus_per_node)
    ranks = topology.world_size
    each = config.train.global_batch_size // ranks
    too_large: list[Needed] = []
    for layout in layouts:
        laid = _with(config, layout)
        needed = [(micro, memory_of(laid, shape, topology, micro, frozen, peaks)) for micro in _micros(config, each)]
        most = most_that_fit(needed)
        if most is not None and not too_little(laid, needed[0][1], nodes):
            micro, memory = most
            return Fit(
                nodes=nodes,
                ranks=ranks,
                layout=layout,
                micro=micro,
                accumulation=each // micro,
                memory=memory,
                host_gb=host_gb(laid, memory, nodes),
                too_large=tuple(too_large),
                step_s=_step_s(laid, shape, frozen, memory, nodes, each // micro),
                enough_work=micro * config.data.seq_len >= hiding_tokens(config, nodes),
            )
        least = needed[0][1]
        host = host_gb(laid, least, nodes) if most is not None else None
        too_large.append(Needed(layout=layout, memory=least, host_gb=host))
    return Fit(
        nodes=nodes,
        ranks=ranks,
        layout=None,
        micro=0,
        accumulation=0,
        memory=None,
        host_gb=0,
        too_large=tuple(too_large),
        step_s=None,
        enough_work=False,
    )


def _micros(config: Config, each: int) -> Iterator[int]:
    """Sequences at a time that divide a rank's share: what the config says, else all."""
    micro = config.train.micro_batch_size
    if isinstance(micro, int):
        # More nodes leave a rank less than that.
        yield next(size for size in range(min(micro, each), 0, -1) if each % size == 0)
    else:
        yield from (size for size in range(1, each + 1) if each % size == 0)


def _step_s(
    config: Config, shape: ShapeConfig, frozen: int, memory: Memory, nodes: int, accumulation: int
) -> float | None:
    tokens, row_tokens = step_tokens(config, None)
    return step_s(
        Setting(
            config=config,
            shape=shape,
            frozen=frozen,
            memory=memory,
            nodes=nodes,
            ranks=nodes * config.cluster.gpus_per_node,
            accumulation=accumulation,
            tokens=tokens,
            row_tokens=row_tokens,
        )
    )


def hiding_tokens(config: Config, nodes: int) -> float:
    """Tokens of a pass from which computing takes as long as stage 3's collectives.

    A token costs 6 operations a parameter, and each pass moves the parameters three times at 2 bytes
    (ZeRO, arXiv:1910.02054, section 7.2.2).
    """
    return computing_flops(config.cluster) / link_bytes_per_s(config.cluster, nodes)


def smallest(rows: Sequence[Fit], *, offloaded: bool) -> Fit | None:
    """The fewest nodes that it fits on; with or without host memory."""
    return next(
        (row for row in rows if row.layout is not None and (offloaded or not row.layout.offload_optimizer)), None
    )


def sensible(rows: Sequence[Fit]) -> list[Fit]:
    """Those that it fits on without host memory, and with enough work for each GPU."""
    return [row for row in rows if row.layout is not None and not row.layout.offload_optimizer and row.enough_work]


def gib_limit(config: Config) -> float:
    """What the plan may fill of a GPU."""
    return MARGIN * config.cluster.gpu_memory_gb
