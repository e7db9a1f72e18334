"""Loading tokenizers, and explaining why one cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.data.render.tokenizer import load_tokenizer
from launcher.errors import UserError


def test_a_saved_tokenizer_loads_with_its_own_template(tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(str(tokenizer_dir))
    assert tokenizer.decode(tokenizer("Blue.")["input_ids"]) == "Blue."
    assert "<|im_start|>" in str(tokenizer.chat_template)


def test_a_jinja_file_replaces_the_template(tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert load_tokenizer(str(tokenizer_dir), str(tmp_path / "t.jinja")).chat_template == "{{ messages }}"


def test_a_missing_template_file_names_its_key(tokenizer_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.chat_template: .*nowhere\.jinja"):
        load_tokenizer(str(tokenizer_dir), str(tmp_path / "nowhere.jinja"))


def test_a_missing_folder_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_folder_without_a_tokenizer_is_explained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.path: no tokenizer could be loaded"):
        load_tokenizer(str(tmp_path))


def test_code_that_comes_with_a_tokenizer_is_not_run(tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizer_dir, tmp_path / "t"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError):
        load_tokenizer(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_truncation_saved_by_chance_does_not_cut_rows(tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tokenizer_dir, tmp_path / "t"))
    document = json.loads((folder / "tokenizer.json").read_text())
    document["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = load_tokenizer(str(folder))
    assert len(tokenizer.backend_tokenizer.encode("What is the colour of the sky?").ids) > 2
