"""Data sets: from files to tokens on disk, and from there to the micro batches of each optimiser step.

The door of this room. Importing it costs nothing: the login machine may use `source`, `check` and `key`; nodes use
    tokenizer.load_tokenizer  the tokenizer, with the chat template that counts
    prepare.prepare           DataSpec -> a prepared folder, complete or absent; `key.find` says whether it is there
    tokens.TokenStore         rows of a prepared folder
    samples.Samples           its rows, or packs of them: what order and batches count
    order.Order               (seed, step) -> the global batch's samples; `mixture.Mixture` says whose turn it is
    batches.micro_batches     samples -> this rank's tensors; `eval_batches` for held-out sets
    prefetch.prefetch         the next step's batches while this one trains
"""

from launcher.data.check import check_head
from launcher.data.key import cache_key, content_mark, find
from launcher.data.source import DataSpec, Format, Overlong, Source

__all__ = ["DataSpec", "Format", "Overlong", "Source", "cache_key", "check_head", "content_mark", "find"]
