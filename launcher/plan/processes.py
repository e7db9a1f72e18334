"""What one rank on CPUs holds of host memory, beside the interpreter and its libraries, by what it does. Pure.

Of the ranks the one that holds most counts. Anonymous memory is counted, which alone can end a job: pages of mapped
files (the model's on the first rank, a checkpoint's in an export) are the kernel's to take back. Read from DeepSpeed's
and torch's sources, and held against processes by `python -m benchmarks.host_memory`.
"""

from __future__ import annotations

import math

from launcher.config.optimisers import STATE_BYTES
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.models.shape import largest_weight, parameter_count, weights
from launcher.plan.memory import activation_bytes
from launcher.plan.trained import parts
from launcher.runplan import HostMemory

_STEP_BYTES = 8
"""Of a parameter while AdamW takes its step: the root of the second moment, and that divided."""
_STEP_ELEMENTS = 10**9
"""Stage 3 takes its steps over so many parameters at a time (DeepSpeed's `sub_group_size`)."""
_KEPT_BYTES = 1 << 25
"""What is freed in smaller pieces, the C library keeps for later ones (mallopt(3), `DEFAULT_MMAP_THRESHOLD_MAX`)."""
EXPORT_FILE_BYTES = 5 * 10**9
"""An export's files are at most so large, and one is in memory at a time."""


def host_memory(config: Config, shape: ShapeConfig, ranks: int, micro_batch: int) -> HostMemory:
    """The estimate for training on so many ranks of CPUs, from weights that lie in files in compute precision."""
    rank = _Rank(config, shape, ranks)
    training, saving, copy = rank.training(micro_batch), rank.saving(), rank.copy()
    return HostMemory(
        loading=rank.loading(),
        training=training,
        saving=saving,
        copied=saving + copy,
        beside=training + copy,
        resuming=rank.resuming(),
        exporting=rank.exporting(),
    )


class _Rank:
    """Bytes of one rank, by what they are for."""

    def __init__(self, config: Config, shape: ShapeConfig, ranks: int) -> None:
        self._config, self._shape, self._ranks = config, shape, ranks
        self._stage = config.zero.stage
        self.weight = 4 if config.precision.dtype is Dtype.fp32 else 2
        self.counted = parts(config, shape)
        self._share = self.counted.trained / (ranks if self._stage else 1)
        """Trained parameters whose states this rank has."""
        self._whole = self.counted.whole + self.counted.adapters
        self._sums_whole = self._stage == 1 and config.precision.dtype is Dtype.bf16
        """DeepSpeed's optimiser for bf16 has fp32 sums of all gradients, and keeps those that are added to them."""

    def loading(self) -> float:
        """Weights and masters; what the weights were before they were joined; and places of gradients.

        DeepSpeed sends the first rank's weights to all: on the others that writes into pages of the mapped file, which
        makes copies of them.
        """
        copied = self.weight * self._whole if self._ranks > 1 and self._stage < 3 else 0
        if self._sums_whole:
            return copied + self._loaded()
        if self._stage == 3:
            # Partitions that have been moved into one buffer, piece by piece. Then a hook is hung on each weight, which
            # is gathered for it (stage3.py, `create_reduce_and_remove_grad_hooks`); gloo has what it gathers twice.
            gathered = 2 * self.weight * largest_weight(self._shape) if self._ranks > 1 else 0
            return self._loaded() + self.weight * self._share + gathered
        cast = self.weight * self._share if self.weight < 4 else 0
        return max(copied + self._weights() + self._masters() + cast, self._loaded() + 4 * self._share)

    def _loaded(self) -> float:
        """When the engine is there."""
        sums = 4 * self.counted.trained if self._sums_whole else 4 * self._share if self._stage == 3 else 0
        return self._weights() + self._masters() + sums

    def between_steps(self) -> float:
        """States, with the gradients that stay where they are."""
        gradients = (4 + self.weight) * self.counted.trained if self._sums_whole else 4 * self._share
        return self._weights() + self._masters() + self._moments() + gradients + self._standing()

    def saving(self) -> float:
        """The same without what the step has freed, which a save begins by giving back: gradients as they came."""
        if self._stage == 3:
            return self.between_steps() - self._gathered() - self._sums_kept()
        freed = self.weight * self.counted.trained if self._sums_whole else 4 * self._share
        return self.between_steps() - (freed if self._stage else 0)

    def training(self, micro_batch: int) -> float:
        """The fuller of the step and of the exchange of gradients before it."""
        states, trained, bucket = self.between_steps(), self.counted.trained, self._config.zero.bucket_elements
        step = _STEP_BYTES * (min(self._share, _STEP_ELEMENTS) if self._stage == 3 else self._share)
        if self._sums_whole:
            # A bucket of sums as one, and once more in the precision that ranks exchange.
            exchange: float = (4 + self.weight) * min(bucket, trained) if self._ranks > 1 else 0
        else:
            # All of the rank's gradients as one.
            step += 4 * self._share if self._stage else 0
            # A bucket as one, and gloo's copy of it; then the rank's part of it in fp32.
            full = self.weight * min(bucket, trained)
            exchange = max(2 * full, full + self._sums() - self._sums_kept()) if self._stage else 0
        return states + max(step, exchange, activation_bytes(self._config, self._shape, self._ranks, micro_batch))

    def copy(self) -> float:
        """What a checkpoint is written from: the rank's states and, on the first, a file of the weights."""
        weights = self.weight * self._whole if self._stage < 3 else 0
        return self._masters() + self._moments() + weights

    def resuming(self) -> float:
        """What has been loaded, and the rank's file; its moments stay."""
        return max(self.loading(), self._loaded() + self._masters() + self._moments())

    def exporting(self) -> float:
        """A file, and the weight that is cast for it; one in fp32 goes in as it was read."""
        cast = 4 * largest_weight(self._shape) if self.weight < 4 else 0
        return float(min(EXPORT_FILE_BYTES, self.weight * self.counted.whole) + cast)

    def _weights(self) -> float:
        return self.weight * self._whole / (self._ranks if self._stage == 3 else 1)

    def _masters(self) -> float:
        # DeepSpeed's partitions are fp32 copies even of fp32.
        return 4 * self._share if self._stage or self.weight == 2 else 0

    def _moments(self) -> float:
        return STATE_BYTES.get(self._config.optim.name, 8) * self._share

    def _standing(self) -> float:
        """Stage 3's bucket, as far as gradients have filled it, what it has gathered of the model, and kept pieces."""
        if self._stage < 3:
            return 0
        bucket = min(self._config.zero.bucket_elements, self.counted.trained)
        return self.weight * bucket + self._gathered() + self._sums_kept()

    def _gathered(self) -> float:
        """Of the model."""
        zero = self._config.zero
        live = min(zero.max_live_elements + zero.prefetch_elements, self._whole)
        return self.weight * live if self._ranks > 1 else 0

    def _sums(self) -> float:
        """Stage 3 turns the rank's part of an exchanged bucket to fp32 (stage3.py, `__avg_scatter_grads`)."""
        part = min(self._config.zero.bucket_elements, self.counted.trained) / self._ranks
        return 4 * part if self._stage == 3 and self.weight < 4 else 0

    def _sums_kept(self) -> float:
        """Of those, what stays when they are freed: they are one piece a weight."""
        sizes = (math.prod(size) for _, size in weights(self._shape))
        kept = sum(size for size in sizes if 4 * size / self._ranks < _KEPT_BYTES)
        return self._sums() * kept / parameter_count(self._shape)
