"""What is tokenised already of a run's data, as far as this machine can see, and what it says of the run. Reads disk at
constant cost, and no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.config.schema import Config
from launcher.data.key import META_FILE, PLAN_BYTES, find
from launcher.data.source import DataSpec
from launcher.models.shape import local_config
from launcher.models.source import cached
from launcher.runplan import RunPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Tokenised training data."""

    epoch_size: int
    """Samples, rows or packs of them, of one pass."""
    sample_tokens: float
    """Mean tokens of a sample."""
    row_tokens: float
    """Mean tokens of a row."""


def prepared(config: Config, spec: DataSpec) -> Prepared | None:
    """What is known of `spec`, tokenised; None where it is not there, or this machine cannot tell."""
    model = local_config(config.model.path, config.model.revision)
    if model is None or config.data.cache_dir is None or not Path(config.data.cache_dir).is_dir():
        return None
    # A run's own copy of the template is not there before the run is.
    copied = spec.chat_template is not None and Path(spec.chat_template).is_file()
    template = spec.chat_template if copied else config.data.chat_template
    found = replace(spec, tokenizer=str(model.parent), chat_template=template)
    folder = find(found, Path(config.data.cache_dir), PLAN_BYTES)
    if folder is None:
        return None
    meta = _meta(folder)
    each = int(meta.get("rows_per_example", 1))
    sizes = [source["packs"] if config.data.packing else source["rows"] // each for source in meta["sources"]]
    counts = [source.count for source in spec.sources if source.count is not None]
    weights = [source.weight for source in spec.sources if source.weight is not None]
    mean = [source["tokens"] / size if size else 0.0 for source, size in zip(meta["sources"], sizes, strict=True)]
    shares = counts or weights or sizes
    return Prepared(
        epoch_size=sum(counts or sizes),
        sample_tokens=sum(share * tokens for share, tokens in zip(shares, mean, strict=True)) / sum(shares),
        row_tokens=meta["tokens"] / meta["rows"],
    )


def folders(plan: RunPlan, hashed_bytes: int | None = None) -> list[Path] | None:
    """The prepared folders of training and held-out rows; None where one is not there.

    Sources above `hashed_bytes` are not read to be known.
    """
    model = cached(plan.config.model)
    if model is None:
        return None
    specs = [plan.train_data, *plan.eval_data.values()]
    found = [find(replace(spec, tokenizer=str(model)), Path(plan.data_cache), hashed_bytes) for spec in specs]
    there = [folder for folder in found if folder is not None]
    return there if len(there) == len(specs) else None


def trained_tokens(plan: RunPlan) -> int | None:
    """Tokens that carry loss, held-out ones among them; None where that is not known yet."""
    there = folders(plan, PLAN_BYTES)
    return None if there is None else sum(_meta(folder)["trained_tokens"] for folder in there)


def _meta(folder: Path) -> Any:
    # Not through data.tokens, which imports numpy.
    return json.loads((folder / META_FILE).read_text(encoding="utf-8"))
