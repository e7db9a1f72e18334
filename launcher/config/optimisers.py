"""Which optimisers there are, what their states take, and where they cannot be had. Pure.

ZeRO hands an optimiser flat parts of many parameters at once. What it does to an element depends on that element's
history alone, or the ranks tell each other what more it takes (`launcher.train.whole`).
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.config.schema import Config, OptimConfig
from launcher.errors import Problem

STATE_BYTES: dict[str, float] = {"adamw": 8, "lion": 4, "muon": 8, "adafactor": 0, "adam8bit": 2 + 8 / 256}
"""By name: bytes of state per parameter; of muon, those of what it leaves to AdamW. Adafactor has a number for each row
and each column of a matrix, which is next to nothing."""
MUON_BYTES = 4
"""Per element of a hidden matrix."""


def state_bytes(optim: OptimConfig, hidden: float = 0.0) -> float:
    """Bytes of state per trained parameter, a moving average included; `hidden` is the share of hidden matrices.

    What is no optimiser is told of elsewhere.
    """
    own = STATE_BYTES.get(optim.name, 8)
    if optim.name == "muon":
        own -= (own - MUON_BYTES) * hidden
    return own + (0 if optim.ema_decay is None else 4)


LEAST_STAGE = {"adamw": 0, "lion": 1, "muon": 1, "adafactor": 1, "adam8bit": 1}
"""By name: the lowest ZeRO stage at which it has been held against its formula."""

_EXCHANGES = "the ranks tell each other of parts of matrices where the states are, and NCCL knows GPUs only"
NOT_OFFLOADED = {"muon": _EXCHANGES, "adafactor": _EXCHANGES}
"""By name: why its states cannot lie in host memory."""


def unfit_for_zero(config: Config) -> Iterator[Problem]:
    """What of the optimiser does not go with the way in which states are spread."""
    name, zero = config.optim.name, config.zero
    least = LEAST_STAGE.get(name, 0)
    if 0 <= zero.stage < least:
        message = f"{name} has not been tried at zero.stage={zero.stage}"
        yield Problem(where="optim.name", message=message, remedy=f"write zero.stage={least}")
    if zero.offload_optimizer and name in NOT_OFFLOADED:
        yield Problem(
            where="zero.offload_optimizer",
            message=f"not with optim={name}: {NOT_OFFLOADED[name]}",
            remedy="write zero.offload_optimizer=false, or optim=adamw",
        )
    if config.optim.ema_decay is not None and zero.stage == 0:
        yield Problem(
            where="optim.ema_decay",
            message="an average is kept beside the fp32 partitions of the weights, and zero.stage=0 has none",
            remedy="write zero.stage=1, or optim.ema_decay=null",
        )
