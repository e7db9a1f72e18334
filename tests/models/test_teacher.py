"""Whether two models speak of the same tokens, told from their files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.models.teacher import other_vocabulary


def folder(path: Path, vocabulary: Any, *, size: int = 4, added: dict[str, int] | None = None) -> Path:
    path.mkdir()
    tokens = [{"id": number, "content": text} for text, number in (added or {}).items()]
    tokenizer = {"added_tokens": tokens, "model": {"vocab": vocabulary}}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "config.json").write_text(json.dumps({"vocab_size": size}))
    return path


@pytest.mark.parametrize(
    ("own", "others", "words"),
    [
        ({"vocabulary": {"a": 0, "b": 1}}, {"vocabulary": {"b": 1, "a": 0}}, None),
        ({"vocabulary": {"a": 0}, "added": {"b": 1}}, {"vocabulary": {"a": 0, "b": 1}}, None),
        ({"vocabulary": [["a", -1.0], ["b", -2.0]]}, {"vocabulary": {"a": 0, "b": 1}}, None),
        ({"vocabulary": {"a": 0, "b": 1}}, {"vocabulary": {"a": 0, "c": 1}}, "number 1 is 'c', and the model's is 'b'"),
        ({"vocabulary": {"a": 0}}, {"vocabulary": {"a": 0, "b": 1}}, "number 1 is 'b', and the model's is None"),
        (
            {"vocabulary": {"a": 0}, "size": 4},
            {"vocabulary": {"a": 0}, "size": 5},
            "it has 5 tokens, and the model has 4",
        ),
    ],
)
def test_a_token_must_be_the_same_to_both(
    tmp_path: Path, own: dict[str, Any], others: dict[str, Any], words: str | None
) -> None:
    found = other_vocabulary(folder(tmp_path / "own", **own), folder(tmp_path / "others", **others))
    assert found is None if words is None else found is not None and words in found
