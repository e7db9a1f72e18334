"""Numbers that go wrong: noticed on values that every rank holds alike, so that all ranks come to one verdict."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from launcher.config.survival import Guard, GuardConfig


class LossGuard:
    """Watches the loss of one run."""

    def __init__(self, config: GuardConfig, recent: Sequence[float], *, scaled: bool = False) -> None:
        """`recent` are the losses of the steps before, oldest first: a resumed run judges as one that never stopped.

        `scaled`: fp16's loss scaler finds its scale by gradients that overflow, and skips their steps by itself.
        """
        self._config = config
        self._scaled = scaled
        self._recent: deque[float] = deque(recent, maxlen=config.spike_window)

    def judge(self, loss: float, grad_norm: float | None) -> tuple[Guard, str]:
        """What follows a step with this mean loss and gradient norm (None where nobody knows it), and why."""
        judged = [loss] if grad_norm is None or self._scaled else [loss, grad_norm]
        bad = not all(math.isfinite(number) for number in judged)
        if bad:
            if self._config.not_a_number is not Guard.off:
                return self._config.not_a_number, f"the loss is {loss}, the gradient norm {grad_norm}"
            return Guard.off, ""
        mean = sum(self._recent) / len(self._recent) if self._recent else math.nan
        full = len(self._recent) == self._config.spike_window
        # One that is only warned of counts from here on, as it does for a run that resumes and reads its metrics.
        self._recent.append(loss)
        if self._config.spike is not Guard.off and full and loss > self._config.spike_factor * mean:
            reason = f"the loss jumped to {loss:.4g}, from a mean of {mean:.4g} over {self._config.spike_window} steps"
            return self._config.spike, reason
        return Guard.off, ""
