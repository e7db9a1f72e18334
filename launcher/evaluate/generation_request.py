"""What `launcher data generate` asks a job for, and what comes out: request.json and results.json. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.config.schema import Attention, Dtype
from launcher.data.key import content_mark
from launcher.data.source import Source
from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import EvalDir

JOURNAL = "answers.jsonl"
"""A line for each batch that is answered, in order: {"lines": […], "left_out": {reason: count}}."""
PROGRESS = "progress.json"
"""{rows, of, answers}, as it grows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """request.json: who answers what, and how."""

    out: str
    """The file of answers, absolute."""
    teacher: str
    """A folder, or hub id."""
    revision: str | None
    """Of the hub."""
    chat_template: str | None
    """A Jinja file for a teacher without a template of its own; its copy in the job's folder."""
    sources: list[Source]
    """The rows whose last answers are to be given anew."""
    marks: list[str]
    """Of their files."""
    seq_len: int
    """Longest prompt with its answer, in the teacher's tokens."""
    max_new_tokens: int | None
    """Longest answer; None is as long as `seq_len` allows."""
    answers: int
    """To each prompt."""
    temperature: float
    """What logits are divided by before a token is drawn; 0 takes the likeliest."""
    seed: int
    """Of what is drawn."""
    batch_size: int
    """Answers at a time."""
    dtype: Dtype
    """Compute precision."""
    attention: Attention
    """Attention kernel."""
    accelerated: bool
    """Whether there are GPUs, over which the teacher is spread."""

    def changed(self) -> list[str]:
        """Files whose rows are not those that were asked about."""
        return [path for path, mark in zip(_paths(self.sources), self.marks, strict=True) if mark_of(path) != mark]

    def write(self, folder: EvalDir) -> None:
        """Publish it."""
        publish_json(folder.request, plain(self))

    @classmethod
    def read(cls, folder: EvalDir) -> GenerationRequest:
        """As it was written."""
        return decode(cls, json.loads(folder.request.read_text(encoding="utf-8")))


def marks_of(sources: Sequence[Source]) -> list[str]:
    """Of the files of some sources, at constant cost each; what lies on a hub has none."""
    return [mark_of(path) for path in _paths(sources)]


def mark_of(path: str) -> str:
    """Of one file; empty where it is not there."""
    return content_mark(Path(path)) if Path(path).is_file() else ""


def _paths(sources: Sequence[Source]) -> list[str]:
    return [path for source in sources for path in source.paths]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """results.json."""

    out: str
    """The file."""
    rows: int
    """Rows that were read."""
    answers: int
    """Lines of the file."""
    left_out: dict[str, int]
    """Prompts that were not asked, and answers that were not kept, by reason."""
    seconds: float
    """How long the last start took, loading included."""

    def write(self, folder: EvalDir) -> None:
        """Publish them: from here on the job is done."""
        publish_json(folder.results, plain(self))

    @classmethod
    def read(cls, folder: EvalDir) -> Generated | None:
        """None while there are none."""
        if not folder.results.is_file():
            return None
        return decode(cls, json.loads(folder.results.read_text(encoding="utf-8")))
