"""A whole evaluation on this machine: behind the training, offline, on a task file, into the run directory and W&B."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from launcher.evaluate.harness import run_tasks, task_results
from launcher.evaluate.request import Request
from launcher.evaluate.task_files import copy_tasks
from launcher.node.eval_job import OFFLINE
from launcher.publish import read_records
from tests.workbench import Bench, make_bench

TASK = """
task: numbers
dataset_path: json
dataset_kwargs:
  data_files: {test: numbers.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: answer
doc_to_choice: ["one", "two", "three"]
process_docs: !function own.keep
fewshot_split: test
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata: {version: 3}
"""
ROWS = 12


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    # Whoever asks the hub finds nobody there.
    made = make_bench(tmp_path_factory.mktemp("bench"), HF_ENDPOINT="http://127.0.0.1:9")
    (made.root / "numbers.yaml").write_text(TASK)
    (made.root / "own.py").write_text("def keep(docs):\n    return docs.filter(lambda doc: doc['kept'])\n")
    rows = [{"question": f"row {index}", "answer": index % 3, "kept": index < ROWS} for index in range(ROWS + 5)]
    (made.root / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_a_model_directory_is_asked_offline_and_in_our_terms(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**OFFLINE, **bench.environment}.items():
        monkeypatch.setenv(name, value)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(bench.root / "model"))
    model.save_pretrained(bench.root / "model")
    target = bench.root / "tasks"
    names = copy_tasks(["numbers.yaml"], target, bench.root)
    monkeypatch.chdir(target)
    answers = [
        run_tasks(bench.root / "model", asked(names, few_shot), target, accelerated=False) for few_shot in (0, 1)
    ]
    first, second = (task_results(answer)["numbers"] for answer in answers)
    assert (first.version, first.few_shot, first.samples) == ("3", 0, ROWS)
    assert second.few_shot == 1
    accuracy = first.scores["acc"]
    assert accuracy.value is not None
    assert accuracy.stderr is not None
    assert accuracy.higher_is_better is True
    # That of a mean of zeros and ones.
    assert accuracy.stderr == pytest.approx((accuracy.value * (1 - accuracy.value) / (ROWS - 1)) ** 0.5)


def asked(names: list[str], few_shot: int) -> Request:
    return Request(
        run_dir="",
        name="numbers",
        tasks=names,
        task_files="f",
        offline=True,
        step=None,
        limit=None,
        few_shot=few_shot,
        chat=False,
        batch_size=4,
        gpus=0,
        after=None,
    )


@pytest.mark.train
def test_benchmarks_asked_for_while_it_trains_follow_its_end(bench: Bench) -> None:
    submitted = json.loads(bench.run("submit", *bench.base, "tracking=offline", "train.max_steps=6", "--json").stdout)
    run = Path(submitted["run_dir"])
    results = json.loads(bench.run("eval", run.name, "--tasks", "numbers.yaml", "--follow", "--json").stdout)
    assert results["step"] == 6
    task = results["tasks"]["numbers"]
    assert (task["version"], task["samples"]) == ("3", ROWS)
    assert task["scores"]["acc"]["value"] * ROWS == pytest.approx(round(task["scores"]["acc"]["value"] * ROWS))
    assert task["scores"]["acc"]["stderr"] is not None
    assert task["scores"]["acc"]["higher_is_better"] is True
    kinds = [event["event"] for event in read_records(run / "events.jsonl")]
    assert kinds.index("eval_submitted") < kinds.index("attempt_ended") < kinds.index("exported")
    assert kinds[-1] == "evaluated"
    # The run's own W&B run, and that of the results.
    assert len(list((run / "wandb").glob("offline-run-*"))) == 2
    assert not (run / "evals" / "numbers" / "model").exists()
    before = (run / "export" / "export.json").stat().st_mtime_ns

    # Another checkpoint of another run, asked less, beside it.
    other = bench.train("train.max_steps=4", "checkpoint.every_steps=2")
    bench.run("export", other.name)
    asked = bench.run("eval", other.name, "--tasks", "numbers.yaml", "--step", "2", "--limit", "6", "--follow")
    assert asked.stdout.split()[:2] == ["TASK", "MEASURE"]
    assert json.loads((other / "export" / "export.json").read_text())["step"] == 4
    assert json.loads((other / "evals" / "numbers" / "results.json").read_text())["step"] == 2
    compared = bench.run("eval", run.name, other.name)
    assert "numbers was not asked alike: questions: 12 and 6" in compared.stderr
    assert (run / "export" / "export.json").stat().st_mtime_ns == before
