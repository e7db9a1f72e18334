"""Which weights a run is trained on top of, where its checkpoints do not hold them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from launcher.config.partial import trains_a_part
from launcher.config.schema import Config
from launcher.models.adapters import file_name
from launcher.models.base import BaseWeights, base_mark, not_by_these_names
from launcher.train.agree import from_rank0


def base_mark_all(config: Config) -> str | None:
    """The mark of the model's weight files; None where every weight is trained; collective."""
    return from_rank0(lambda: base_mark(_folder())) if trains_a_part(config) else None


def require_names_all(module: Any) -> None:
    """UserError where an export would not find a frozen weight in the model's files; collective."""
    # Names only: under ZeRO-3 the weights themselves are in pieces.
    frozen = [file_name(name) for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if frozen and (lacking := from_rank0(lambda: BaseWeights(_folder()).lacking(frozen))):
        raise not_by_these_names(_folder(), lacking)


def _folder() -> Path:
    return Path(os.environ["LAUNCHER_MODEL"])
