"""metrics.jsonl: one record a step, written by rank 0. The truth that everything else follows."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from launcher.gpus import gpu_named
from launcher.publish import append_record

MOST_WAITING = 100_000
"""Records kept in memory while the disk is full."""


def peak_flops(device: torch.device) -> float | None:
    """Peak of this rank's device; None where it is not known (CPUs among them)."""
    if device.type != "cuda":
        return None
    gpu = gpu_named(torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.peak_flops


GAP_STEPS = 100
"""Steps, at most, whose losses a held-out loss is compared with."""


class MetricsWriter:
    """Turns what the loop knows after a step into records; without a path (every rank but 0) it only counts."""

    def __init__(
        self,
        path: Path | None,
        *,
        attempt: int,
        tokens: int,
        flops_per_token: float,
        world_size: int,
        device: torch.device,
        recent: Sequence[float] = (),
    ) -> None:
        """`recent` are the losses of the last steps before, at most `GAP_STEPS`."""
        self._path = path
        self._attempt = attempt
        self.tokens = tokens
        """Trained tokens so far, over the whole run."""
        self.recent: deque[float] = deque(recent, maxlen=GAP_STEPS)
        """Losses of the last steps, the newest last."""
        self._flops_per_token = flops_per_token
        self._world_size = world_size
        self._device = device
        self._peak = peak_flops(device)
        self._last = time.perf_counter()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)

    def restart_clock(self) -> None:
        """Leave what happened since the last step (evaluation, a checkpoint) out of the next step's time."""
        self._last = time.perf_counter()

    def step(
        self,
        step: int,
        *,
        loss: float,
        lr: float,
        grad_norm: float | None,
        trained: int,
        processed: int,
        samples: int,
        measured: Mapping[str, float],
    ) -> None:
        """Record optimiser step `step` (from 1), with what the objective measures.

        `trained` tokens carried loss, and `processed` went through the model; both over all ranks. `samples` is the
        checksum of the samples that were fed.
        """
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        self.tokens += trained
        self.recent.append(loss)
        self._write(
            step=step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.tokens,
            tokens_per_s=round(processed / elapsed, 1),
            step_time_s=round(elapsed, 4),
            mfu=self._mfu(processed / elapsed),
            memory_gb=self._memory_gb(),
            samples=samples,
            **measured,
        )

    def evaluation(self, step: int, measured: Mapping[str, float], *, tokens: int) -> None:
        """Record what was measured on held-out rows, of so many trained tokens, after `step` optimiser steps."""
        self._write(step=step, **measured, eval_tokens=tokens)

    def slices(self, step: int, found: Mapping[str, Any]) -> None:
        """Record losses by slice, {set: {field: {value: {…}}}}, after `step` optimiser steps."""
        self._write(step=step, slices=found)

    def _write(self, **values: Any) -> None:
        if self._path is None:
            return
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }
        self._waiting.append({**finite, "attempt": self._attempt})
        try:
            while self._waiting:
                append_record(self._path, self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            # Training outlives a full disk; what could not be written is tried again with the next record.
            print(f"metrics.jsonl takes no more ({error.strerror}); {len(self._waiting)} records wait", flush=True)

    def _mfu(self, tokens_per_s: float) -> float | None:
        """Model FLOPs utilisation (PaLM, arXiv:2204.02311, appendix B): a share of the peak of all GPUs."""
        if self._peak is None:
            return None
        return round(tokens_per_s * self._flops_per_token / (self._peak * self._world_size), 4)

    def _memory_gb(self) -> float | None:
        if self._device.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self._device) / 2**30, 2)
