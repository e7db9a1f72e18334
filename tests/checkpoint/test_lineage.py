"""What a run began with is written down once, and goes on into manifests, exports and cards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.checkpoint.lineage import PROVENANCE, lineage_of, provenance, read_lineage, read_provenance
from launcher.checkpoint.manifest import MANIFEST, read_manifest
from launcher.checkpoint.model_card import model_card
from launcher.cli.main import main
from launcher.config.schema import Dtype, Init
from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.freeze import freeze
from tests.fakes import MadeRun, planned_run, write_tiny_model


@pytest.fixture
def parent(tmp_path: Path) -> MadeRun:
    """A run of which a model was exported."""
    made = MadeRun(tmp_path / "runs", "parent-1")
    made.begin(0)
    made.checkpoint(7)
    return made


def export_of(made: MadeRun) -> Path:
    """A model directory that says where it comes from, as an export does."""
    folder = write_tiny_model(made.run.export)
    (folder / "model.safetensors").write_bytes(b"")
    planned = planned_run(made.run.root.parent.parent / "other")
    manifest = read_manifest(made.run.checkpoints / "step-00000007")
    assert manifest is not None
    plan = replace(RunPlan.load(planned.plan), run_id=made.run.root.name)
    (folder / PROVENANCE).write_text(json.dumps(provenance(made.run, plan, manifest, Dtype.bf16)))
    return folder


def child_of(folder: Path, root: Path) -> RunDir:
    data = root / "other" / "train.jsonl"
    words = [f"model.path={folder}", "model.init=pretrained", f"data.train={data}", "data.eval=null"]
    words.append(f"runs_root={root / 'runs'}")
    plan = plan_request(Request(recipe="demo", overrides=words, config_dir=None, work_dir=root))
    return freeze(plan, words)


def test_a_run_that_begins_with_an_export_knows_its_parent(parent: MadeRun, tmp_path: Path) -> None:
    found = read_lineage(child_of(export_of(parent), tmp_path))
    assert found is not None
    assert found.parent is not None
    assert (found.parent.run_id, found.parent.step) == ("parent-1", 7)
    assert found.base == str(parent.run.export)


def test_what_the_export_holds_later_changes_nothing(parent: MadeRun, tmp_path: Path) -> None:
    folder = export_of(parent)
    child = child_of(folder, tmp_path)
    before = read_lineage(child)
    (folder / PROVENANCE).write_text(json.dumps({"run_id": "another", "step": 1}))
    assert read_lineage(child) == before


def test_the_parents_checkpoint_is_named_by_its_content(parent: MadeRun) -> None:
    said = read_provenance(export_of(parent))
    assert said is not None
    manifest = parent.run.checkpoints / "step-00000007" / MANIFEST
    manifest.write_text(manifest.read_text().replace("bf16", "fp32"))
    again = read_provenance(parent.run.export)
    assert again == said
    planned = RunPlan.load(planned_run(parent.run.root.parent / "x").plan)
    told = read_manifest(parent.checkpoint(9))
    assert told is not None
    assert provenance(parent.run, planned, told, Dtype.bf16)["checkpoint"] != said["checkpoint"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run_id": "a"}'])
def test_a_folder_that_says_nothing_useful_has_no_provenance(text: str, tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None
    (tmp_path / PROVENANCE).write_text(text)
    assert read_provenance(tmp_path) is None


def test_random_weights_have_no_parent(parent: MadeRun, tmp_path: Path) -> None:
    model = RunPlan.load(child_of(export_of(parent), tmp_path).plan).config.model
    assert lineage_of(model).parent is not None
    assert lineage_of(replace(model, init=Init.random)).parent is None


def test_manifests_carry_it_and_those_without_are_read_all_the_same(parent: MadeRun, tmp_path: Path) -> None:
    lineage = read_lineage(child_of(export_of(parent), tmp_path))
    assert lineage is not None
    folder = parent.checkpoint(8)
    manifest = read_manifest(folder)
    assert manifest is not None
    replace(manifest, lineage=lineage.words()).write(folder)
    found = read_manifest(folder)
    assert found is not None
    assert found.lineage["parent_run"] == "parent-1"
    card = model_card(RunPlan.load(planned_run(tmp_path / "y").plan), found, Dtype.bf16, {"packages": {}})
    assert "| Parent run | parent-1 at step 7" in card


def test_a_manifest_of_before_there_was_lineage_is_good(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(0)
    folder = made.checkpoint(3)
    document = json.loads((folder / MANIFEST).read_text())
    del document["lineage"], document["sha256"]
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**document, "sha256": digest}))
    found = read_manifest(folder)
    assert found is not None
    assert found.lineage == {}


def test_the_tree_draws_children_below_their_parents(
    parent: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = child_of(export_of(parent), tmp_path)
    root = ["--runs-root", str(tmp_path / "runs")]
    assert main([*root, "ls", "--tree"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("parent-1 ")
    assert lines[2].startswith(f"└─ {child.root.name}")
    assert lines[2].endswith("parent-1 at step 7")
    assert main([*root, "ls", "--tree", "--json"]) == 0
    documents = {item["run_id"]: item for item in json.loads(capsys.readouterr().out)}
    assert documents[child.root.name]["lineage"]["parent"]["run_id"] == "parent-1"
    assert documents["parent-1"]["lineage"] is None
