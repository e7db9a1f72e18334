"""The demo data set: real, repeatable, complete or absent."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from launcher.data.check import check_head
from launcher.data.formats import Conversation, Message
from launcher.data.render.encode import Encoder
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import Source
from tests.data.conftest import CLEAN

SCRIPT = Path(__file__).parents[2] / "recipes" / "demo_data.py"


@pytest.fixture(scope="module")
def demo_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_data"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(demo_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set, made by the script in a process of its own, as a person would."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = run_script(folder, hash_seed=1)
    assert done.stderr == ""
    assert "training rows" in done.stdout
    return folder


def run_script(folder: Path, hash_seed: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=True, env=environment)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_rows_are_many_and_good(made: Path) -> None:
    train, held_out = rows(made / "train.jsonl"), rows(made / "held_out.jsonl")
    assert len(train) > 3000
    assert 0.05 < len(held_out) / (len(train) + len(held_out)) < 0.15
    answers = [row["messages"][1]["content"] for row in train + held_out]
    assert len(set(answers)) == len(answers)
    assert max(map(len, answers)) <= 400
    assert not [answer for answer in answers if " at 0x" in answer]
    for name in ("train.jsonl", "held_out.jsonl"):
        assert check_head(Source(name="rows", paths=(str(made / name),)), "data.train", CLEAN) == []


def test_training_and_held_out_rows_share_no_object(made: Path) -> None:
    def names(path: Path) -> set[str]:
        return {row["messages"][0]["content"].split("`")[1] for row in rows(path)}

    assert not names(made / "train.jsonl") & names(made / "held_out.jsonl")


def test_another_process_makes_the_same_files(made: Path, tmp_path: Path) -> None:
    run_script(tmp_path / "again", hash_seed=2)
    for path in made.rglob("*"):
        assert path.is_dir() or path.read_bytes() == (tmp_path / "again" / path.relative_to(made)).read_bytes()


def test_tokenizer_and_config_agree(made: Path) -> None:
    tokenizer = load_tokenizer(str(made / "model"))
    config = json.loads((made / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == len(tokenizer) == 4096
    for name in ("bos", "eos", "pad"):
        assert config[f"{name}_token_id"] == getattr(tokenizer, f"{name}_token_id") is not None
    turns = (Message(role="user", content="What?"), Message(role="assistant", content="naïve 😀\n"))
    encoded = Encoder(tokenizer).encode(Conversation(messages=turns))
    assert tokenizer.decode(encoded.ids[encoded.trained].tolist()) == "naïve 😀\n<|im_end|>"


def test_a_complete_folder_is_left_alone(made: Path, demo_data: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "README").stat()
    assert demo_data.main([str(made)]) == 0
    assert "complete" in capsys.readouterr().out
    assert (made / "README").stat() == before


def test_a_folder_with_something_else_in_it_is_refused(demo_data: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert demo_data.main([str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
