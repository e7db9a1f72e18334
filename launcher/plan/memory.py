"""What one GPU holds at most in a training step. Pure.

Model states after the ZeRO paper (arXiv:1910.02054, section 3.1), activations as `launcher.plan.activations` has them.
A step has several moments that may be the fullest: where the loss begins to go backwards, where the last block does,
where a bucket of gradients is full, and where the optimiser takes its step. What each holds was read from the
allocator's own record on a GPU; `python -m benchmarks.memory` holds the sum against what is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.config.evaluate import scored_sets
from launcher.config.optimisers import state_bytes
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.config.sources import held_out_sets
from launcher.models.shape import active_count, largest_weight, mixes
from launcher.objectives.protocol import Rollouts, Sampler
from launcher.objectives.registry import objective_of
from launcher.plan.activations import block_bytes, ends_bytes, loss_bytes, square_bytes
from launcher.plan.trained import bytes_quantised, parts
from launcher.runplan import Memory

GIB = 2**30
MARGIN = 0.9
"""Share of a GPU that the plan may fill; the rest is for CUDA's context, NCCL and fragmentation."""
_STEP_ELEMENTS = 10**9
"""Stage 3 takes its steps over so many parameters at a time (DeepSpeed's `sub_group_size`)."""

_UNPACKED, _UNPACKED_BYTES = 1 << 24, 32
"""Parameters whose 8-bit moments are unpacked at a time (`launcher.checkpoint.packed`), and bytes of each then."""


def plan_memory(
    config: Config, shape: ShapeConfig, ranks: int, micro_batch: int, frozen: int = 0, accumulation: int = 1
) -> Memory:
    """Estimate the fullest moment of a step with `micro_batch` sequences of `data.seq_len` tokens, all of them trained.

    `frozen` parameters learn nothing; they are held beside the model's own, or before it where a teacher is asked once.
    With more than one micro batch a step, gradients are there while the next one's loss is.
    """
    estimate = _Estimate(config, shape, ranks, micro_batch, frozen, accumulation)
    fullest = max(estimate.moments(), key=lambda moment: moment.bytes)
    return Memory(
        parameters=estimate.counted.whole,
        trained=estimate.counted.trained,
        active=active_count(shape),
        when=fullest.when,
        states_gb=fullest.states / GIB,
        buffers_gb=fullest.buffers / GIB,
        activations_gb=fullest.activations / GIB,
        available_gb=config.cluster.gpu_memory_gb,
    )


def activation_bytes(config: Config, shape: ShapeConfig, ranks: int, micro_batch: int) -> float:
    """What a pass has kept, and the loss takes, where it goes backwards."""
    return next(_Estimate(config, shape, ranks, micro_batch, 0, 1).moments()).activations


def fits(memory: Memory) -> bool:
    """Whether the margin stays free, by what was measured where something was, else by the estimate."""
    return memory.held_gb <= MARGIN * memory.available_gb


def most_that_fit(needed: Sequence[tuple[int, Memory]]) -> tuple[int, Memory] | None:
    """The most sequences that fit, and with what; of ascending numbers, none above one that was measured not to."""
    most = None
    for micro, memory in needed:
        if fits(memory):
            most = micro, memory
        elif memory.measured_gb is not None:
            break
    return most


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """Bytes."""

    when: str
    states: float
    buffers: float
    activations: float

    @property
    def bytes(self) -> float:
        return self.states + self.buffers + self.activations


class _Estimate:
    """Bytes of one GPU, by what they are for."""

    def __init__(
        self, config: Config, shape: ShapeConfig, ranks: int, micro_batch: int, frozen: int, accumulation: int
    ) -> None:
        self._config, self._shape, self._ranks = config, shape, ranks
        self._zero, self._accumulates = config.zero, accumulation > 1
        self._weight = 4 if config.precision.dtype is Dtype.fp32 else 2
        self._needs = objective_of(config).needs
        teacher = self._needs.teacher
        once = teacher is not None and teacher.top_k is not None
        self._frozen, self._asked_once = (0, frozen) if once else (frozen, 0)
        self._judged = teacher is not None and not once
        self._tokens = micro_batch * config.data.seq_len * self._needs.learns.rows_per_example
        self.counted = parts(config, shape)

    def moments(self) -> Iterator[_Moment]:
        """Those that may be the fullest."""
        held, kept, buffers = self._held(), self._gradients_kept(), self._standing_buffers()
        ends, blocks = self._tokens * ends_bytes(self._shape, self._weight), self._blocks()
        yield _Moment(
            when="the loss goes backwards",
            states=held + kept,
            buffers=buffers,
            activations=ends + blocks + self._tokens * self._loss(),
        )
        yield _Moment(
            when="the last block goes backwards",
            states=held + kept,
            buffers=buffers + self._buckets(),
            activations=ends + blocks + self._one_block(),
        )
        yield _Moment(
            when="gradients are reduced",
            states=held + self._gradients(),
            buffers=buffers + self._buckets() + self._copies(),
            activations=ends + self._left_of_blocks() + self._last_gradients(),
        )
        yield _Moment(
            when="the optimiser takes its step",
            states=held + self._gradients(),
            buffers=buffers + self._step_copies(),
            activations=0,
        )
        asks = self._config.evaluate.answers
        if self._needs.rollouts is not None:
            yield _Moment(
                when="answers are sampled",
                states=held + kept,
                buffers=buffers,
                activations=self._sampled(self._needs.rollouts),
            )
        if self._asked_once:
            # Alone: the model comes when the teacher is gone. Its logits are there as they come and in fp32.
            yield _Moment(
                when="the teacher is asked",
                states=0 if self._zero.offload_param else self._asked_once * self._weight / self._share(3),
                buffers=self._gathered(self._asked_once),
                activations=self._tokens * self._shape.vocab_size * (self._weight + 4),
            )
        if scored_sets(asks, held_out_sets(self._config.data.eval)):
            answers = asks.at_once * self._answer()
            yield _Moment(when="held-out rows are answered", states=held + kept, buffers=buffers, activations=answers)

    def _share(self, stage: int) -> int:
        """Over how many ranks what that stage partitions is spread."""
        return self._ranks if self._zero.stage >= stage else 1

    def _held(self) -> float:
        """Parameters, master copies, moments, and what the parameters were where they are pulled there."""
        config, counted = self._config, self.counted
        plain = (counted.whole - counted.quantised + counted.adapters + self._frozen) * self._weight
        held = plain + counted.quantised * bytes_quantised(double=config.adapter.double_quant)
        parameters = 0 if self._zero.offload_param else held / self._share(3)
        states = state_bytes(config.optim, counted.hidden / max(1, counted.trained))
        optimiser = states + (4 if config.optim.pull_to_start else 0)
        # DeepSpeed's partitions are fp32 copies even of fp32.
        optimiser += 4 if self._weight == 2 or self._zero.stage else 0
        return parameters + (0 if self._zero.offload_optimizer else counted.trained * optimiser / self._share(1))

    def _gradients(self) -> float:
        """At the end of a backward pass: in fp32, but for stage 0, which has none but those in compute precision."""
        if self._zero.offload_optimizer and self._zero.stage >= 2:
            return 0
        return self.counted.trained * (4 / self._share(2) if self._zero.stage else self._weight)

    def _gradients_kept(self) -> float:
        """While a loss is computed. Stage 3 has a place for them at all times, and so has stage 1 in bf16."""
        standing = self._zero.stage == 3 or self._sums_in_place()
        return self._gradients() if standing or self._accumulates else 0

    def _sums_in_place(self) -> bool:
        """Whether DeepSpeed's optimiser for bf16 adds gradients up in fp32 as they come, without buckets."""
        return self._zero.stage == 1 and self._config.precision.dtype is Dtype.bf16

    def _standing_buffers(self) -> float:
        """Stage 3's bucket, which has its full size whatever the model's, and what it has gathered of the model."""
        standing = self._zero.bucket_elements * self._weight if self._zero.stage == 3 else 0
        return standing + self._gathered(self.counted.whole)

    def _gathered(self, parameters: int) -> float:
        """What is there at a time of a model that stage 3 fetches piece by piece."""
        if self._zero.stage < 3 or not (self._ranks > 1 or self._zero.offload_param):
            return 0
        return min(self._zero.max_live_elements + self._zero.prefetch_elements, parameters) * self._weight

    def _buckets(self) -> float:
        """Buckets that are filled in a backward pass, in their full size: a second one where one is under way."""
        if self._zero.stage == 0 or self._sums_in_place():
            return 0
        standing, alone = self._zero.stage == 3, self._ranks == 1
        count = (1 if self._zero.overlap_comm and not (standing and alone) else 0) + (0 if standing else 1)
        return count * self._zero.bucket_elements * self._weight

    def _copies(self) -> float:
        """Of a full bucket, on its way to other ranks."""
        elements = min(self._zero.bucket_elements, self.counted.trained)
        return elements * self._weight if self._zero.stage in (1, 2) else 0

    def _step_copies(self) -> float:
        """What is there only while the optimiser takes its step."""
        trained = self.counted.trained
        if self._zero.stage == 0:
            # Gradients once more, in fp32.
            return trained * 4 if self._weight == 2 else 0
        if self._zero.offload_optimizer:
            return 0
        own = 4 * (trained / self._ranks if self._zero.stage < 3 else min(trained / self._ranks, _STEP_ELEMENTS))
        return own + self._optimiser_copies()

    def _optimiser_copies(self) -> float:
        """The optimiser's own: Muon has the largest matrix five times, in shares and whole; 8-bit Adam unpacks some."""
        shape, name = self._shape, self._config.optim.name
        if name == "muon":
            return 0 if self._config.adapter.used else 20 * shape.hidden_size * shape.intermediate_size
        return _UNPACKED_BYTES * min(self.counted.trained / self._ranks, _UNPACKED) if name == "adam8bit" else 0

    def _block(self, *, mixes: bool) -> float:
        """What a block keeps for its backward pass."""
        frozen = self._config.adapter.used
        return self._tokens * block_bytes(self._config, self._shape, self._weight, frozen=frozen, mixes=mixes)

    def _blocks(self) -> float:
        """What all blocks have kept when the loss is there: what goes into each, where they are recomputed."""
        layers = self._shape.num_hidden_layers
        if self._config.model.activation_checkpointing:
            return layers * self._tokens * self._shape.hidden_size * self._weight
        return sum(self._block(mixes=mixes(self._shape, layer)) for layer in range(layers))

    def _one_block(self) -> float:
        """What a block takes while it goes backwards, beside what was kept of it."""
        square = self._tokens * square_bytes(self._config, self._shape, self._weight)
        kinds = {mixes(self._shape, layer) for layer in range(self._shape.num_hidden_layers)}
        again = max(self._block(mixes=kind) for kind in kinds)
        return square + (again if self._config.model.activation_checkpointing else 0)

    def _left_of_blocks(self) -> float:
        """What is still kept when the first bucket is full, and of the block that filled it."""
        left = max(0.0, 1 - self._zero.bucket_elements / max(1, self.counted.trained))
        return left * self._blocks() + (self._one_block() if left else 0)

    def _last_gradients(self) -> float:
        """Of the largest parameter: the embedding, to which a tied head adds its own, or the experts of a block."""
        if self._config.adapter.used:
            return 0
        shape = self._shape
        tied = shape.vocab_size * shape.hidden_size if shape.tie_word_embeddings else 0
        return max(largest_weight(shape), 2 * tied) * self._weight

    def _loss(self) -> float:
        """Of a token, where the loss goes backwards."""
        needs, shape = self._needs, self._shape
        if needs.head is None:
            return loss_bytes(shape, shape.vocab_size, self._weight, judged=self._judged)
        return 12 * needs.head.outputs

    def _sampled(self, asks: Rollouts) -> float:
        """What the answers of a rollout take; vLLM fills its share, whatever is asked."""
        if asks.sampler is Sampler.vllm:
            return asks.vllm_memory * self._config.cluster.gpu_memory_gb * GIB
        return asks.at_once * self._answer()

    def _answer(self) -> float:
        """Keys and values of one that is sampled, and its next token's logits and noise."""
        shape = self._shape
        cached = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * self._weight
        return float(self._config.data.seq_len * cached + shape.vocab_size * 48)
