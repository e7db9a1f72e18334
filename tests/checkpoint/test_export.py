"""Exports hold exactly the weights of the checkpoint, and score as training did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from launcher.data.tokens import TokenStore
from tests.workbench import Bench, held_out, write_model

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", params=[1, 3])
def finished(request: pytest.FixtureRequest, bench: Bench) -> Path:
    run = bench.train(f"zero.stage={request.param}", "train.max_steps=5")
    assert "from training's own" in bench.run("export", run.name, "--verify").stderr
    return run


def test_weights_are_exactly_those_of_deepspeeds_zero_to_fp32(finished: Path, tmp_path: Path) -> None:
    checkpoints = finished / "checkpoints"
    command = [sys.executable, checkpoints / "zero_to_fp32.py", checkpoints, tmp_path, "--safe_serialization"]
    subprocess.run(command, check=True, capture_output=True)
    theirs, ours = load_file(tmp_path / "model.safetensors"), load_file(finished / "export" / "model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_transformers_loads_it_and_finds_the_held_out_loss_that_training_logged(finished: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "export").eval()
    assert AutoTokenizer.from_pretrained(finished / "export").chat_template
    stores = [TokenStore(meta.parent) for meta in (finished.parent / ".data").glob("*/meta.json")]
    (store,) = [store for store in stores if len(store) == 10]
    loss_sum, tokens = 0.0, 0
    for row in range(len(store)):
        ids, trained = (torch.from_numpy(part.astype("int64")) for part in store.row(row))
        with torch.no_grad():
            log_p = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1], dim=-1)
        mask = trained[1:].bool()
        loss_sum -= float(log_p[mask, ids[1:][mask]].sum())
        tokens += int(mask.sum())
    assert loss_sum / tokens == pytest.approx(held_out(finished)[5], rel=1e-5)


def test_an_export_that_answers_otherwise_than_training_is_told_apart(bench: Bench, finished: Path) -> None:
    probe = finished / "probe.json"
    before = probe.read_text()
    document = json.loads(before)
    try:
        probe.write_text(json.dumps({**document, "outputs": [value * 1.01 for value in document["outputs"]]}))
        differing = bench.run("export", finished.name, "--verify", check=False)
        probe.write_text(json.dumps({**document, "step": 4}))
        unknown = bench.run("export", finished.name, "--verify", check=False)
    finally:
        probe.write_text(before)
    assert differing.returncode == 5
    assert "do not use it" in differing.stderr
    assert unknown.returncode == 3
    assert "one of step 4" in unknown.stderr


def test_it_says_where_it_comes_from_and_what_to_type_next(bench: Bench, finished: Path) -> None:
    said = json.loads((finished / "export" / "export.json").read_text())
    manifest = json.loads((finished / "checkpoints" / "step-00000005" / "manifest.json").read_text())
    assert (said["run_id"], said["step"], said["data"]) == (finished.name, 5, manifest["data"])
    assert said["lineage"] == manifest["lineage"] == {"base": "none"}
    result = bench.run("export", finished.name)
    assert result.stdout == f"{finished / 'export'}\n"
    assert f"next    vllm serve {finished / 'export'}" in result.stderr


def test_the_model_card_names_where_the_model_comes_from(finished: Path) -> None:
    card = (finished / "export" / "README.md").read_text()
    for fact in ("random weights", "train.jsonl", "demo", "5 of 5", finished.name, "| Commit |"):
        assert fact in card


def test_an_earlier_step_and_another_precision_can_be_exported(bench: Bench, finished: Path, tmp_path: Path) -> None:
    bench.run("export", finished.name, "--step", "5", "--dtype", "bf16", "--out", str(tmp_path / "half"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype is torch.bfloat16
    missing = bench.run("export", finished.name, "--step", "4", check=False)
    assert missing.returncode == 3
    assert "5" in missing.stderr


def test_a_damaged_checkpoint_is_not_exported(bench: Bench) -> None:
    run = bench.train("train.max_steps=2", "data.eval=null")
    manifest = json.loads((run / "checkpoints" / "step-00000002" / "manifest.json").read_text())
    flip(run / "checkpoints" / "step-00000002" / manifest["shards"][0]["name"])
    result = bench.run("export", run.name, check=False)
    assert result.returncode == 5
    assert "has changed since it was written" in result.stderr
    assert not (run / "export").exists()


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_folder_that_is_no_export_is_left_alone_and_an_export_is_replaced(
    bench: Bench, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = bench.run("export", finished.name, "--out", str(tmp_path), check=False)
    assert result.returncode == 2
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    for _ in range(2):
        bench.run("export", finished.name, "--out", str(tmp_path / "new"))
    assert (tmp_path / "new" / "model.safetensors").is_file()


def test_another_tokenizer_than_in_training_is_refused(bench: Bench, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    run = bench.train(f"model.path={model}", "train.max_steps=1", "data.eval=null")
    (model / "chat_template.jinja").write_text("{{ messages }} other")
    result = bench.run("export", run.name, check=False)
    assert result.returncode == 2
    assert "not what the run was trained with" in result.stderr
