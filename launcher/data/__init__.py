"""Data sets: from files to tokens on disk, and from there to the micro batches of each optimiser step.

The door of this house. Importing it costs nothing: the login machine may use `source`, `check` and `key`. Its rooms:
    read      files to rows, whatever kind of file           formats   rows to conversations
    clean     which rows are not trained on, and why         render    conversations to tokens and loss masks
    make      all of that, once, into a prepared folder: `make.prepare`; `key.find` says whether it is there
    feed      from there to this rank's micro batches: `samples`, `order` and `mixture`, `batches`, `prefetch`
`tokens` is what a prepared folder looks like; `report` and `inspect` are for people.
"""

from launcher.data.check import check_head
from launcher.data.key import cache_key, content_mark, find
from launcher.data.source import DataSpec, Format, Overlong, Source

__all__ = ["DataSpec", "Format", "Overlong", "Source", "cache_key", "check_head", "content_mark", "find"]
