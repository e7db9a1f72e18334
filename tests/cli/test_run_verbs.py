"""submit, status, ls, logs, cancel and resume as typed, against Slurm's commands played by scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from launcher.rundir import RunDir
from launcher.runs.outcome import Ending
from tests.fakes import FakeSlurm, MadeRun

Out = pytest.CaptureFixture[str]


def answer(capsys: Out, *arguments: str) -> Any:
    """What a command that must succeed prints as JSON."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    seen = capsys.readouterr()
    assert code == 0, seen.err
    return json.loads(seen.out)


@pytest.fixture
def submitted(demo: Path, slurm: FakeSlurm, capsys: Out) -> RunDir:
    return RunDir(
        Path(
            answer(capsys, "submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false", "train.seed=7")[
                "run_dir"
            ]
        )
    )


def test_a_submitted_run_is_frozen_private_and_queued(submitted: RunDir, slurm: FakeSlurm) -> None:
    assert submitted.root.stat().st_mode & 0o777 == 0o700
    assert json.loads(submitted.job.read_text())["job_id"] == "42"
    assert submitted.overrides.read_text().splitlines() == [
        "demo",
        "cluster=devslurm",
        "cluster.data_job.enabled=false",
        "train.seed=7",
    ]
    assert json.loads(submitted.plan.read_text())["config"]["train"]["seed"] == 7
    assert (submitted.code / "launcher/node/entry.py").is_file()
    assert len(slurm.calls("sbatch")) == 1


def test_the_script_that_is_sent_is_the_one_that_was_shown(submitted: RunDir, capsys: Out) -> None:
    (sent,) = submitted.submissions.glob("0001/42_*.sh")
    assert main(["plan", "demo", "--sbatch", "cluster=devslurm", "cluster.data_job.enabled=false", "train.seed=7"]) == 0
    shown = capsys.readouterr().out
    name = next(line.split("=")[1] for line in shown.splitlines() if "--job-name" in line)
    assert sent.read_text().strip() == shown.replace(name, submitted.root.name).strip()


def test_what_is_printed_says_what_to_type_next(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    assert main(["submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false"]) == 0
    text = capsys.readouterr().out
    for words in ("job     42", "launcher status demo-", "launcher logs -f demo-", "launcher cancel demo-"):
        assert words in text


def test_a_dry_run_leaves_nothing_behind(demo: Path, work: Path, slurm: FakeSlurm, capsys: Out) -> None:
    assert main(["submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "global 16 = " in text
    assert "#SBATCH" in text
    assert list(work.iterdir()) == []
    assert slurm.calls("sbatch") == []


def test_a_cluster_that_refuses_leaves_no_run_behind(demo: Path, work: Path, slurm: FakeSlurm, capsys: Out) -> None:
    slurm.refuse("sbatch: error: invalid partition specified: none")
    assert main(["submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false", "--json"]) == 4
    seen = capsys.readouterr()
    assert "invalid partition specified" in json.loads(seen.out)["error"][0]["message"]
    assert list((work / "runs").iterdir()) == []


def test_no_slurm_on_this_machine_is_the_clusters_fault(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false"]) == 4
    assert "cluster=local" in capsys.readouterr().err


def test_status_has_exactly_the_keys_of_the_contract(submitted: RunDir, capsys: Out) -> None:
    found = answer(capsys, "status", "last")
    assert list(found) == [
        "run_id", "state", "job_id", "attempts", "step",
        "total_steps", "last_checkpoint", "lost_steps", "goodput", "reason", "failure", "checkpoint_interval", "stages",
    ]  # fmt: skip
    assert (found["run_id"], found["state"], found["job_id"]) == (submitted.root.name, "QUEUED", "42")


def test_the_state_follows_the_queue(submitted: RunDir, slurm: FakeSlurm, capsys: Out) -> None:
    slurm.state("RUNNING")
    assert answer(capsys, "status", "demo")["state"] == "RUNNING"
    slurm.state(None)
    assert answer(capsys, "status", "demo")["state"] == "FAILED"


def test_an_unreachable_cluster_does_not_keep_status_and_ls_from_answering(
    submitted: RunDir, slurm: FakeSlurm, capsys: Out
) -> None:
    slurm.refuse("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    (found,) = answer(capsys, "ls")
    assert found == answer(capsys, "status", "last")
    assert "Unable to contact" in found["reason"]


def test_ls_lists_the_newest_run_at_the_end(work: Path, capsys: Out) -> None:
    for name in ("one", "two"):
        made = MadeRun(work / "runs", name)
        made.begin(step=0, total=9)
        made.steps([1, 2])
        made.end(Ending.completed)
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "STEP", "CHECKPOINT", "ATTEMPTS", "JOB"]
    assert [line.split()[0] for line in lines[1:]] == ["one", "two"]
    assert "2/9" in lines[1]


def test_no_runs_are_no_error(work: Path, capsys: Out) -> None:
    assert answer(capsys, "ls") == []
    assert main(["ls"]) == 0


def test_a_page_of_status_is_readable(work: Path, capsys: Out) -> None:
    made = MadeRun(work / "runs")
    made.begin(step=0)
    made.steps([1, 2])
    made.end(Ending.completed, "all steps done")
    assert main(["status", "last"]) == 0
    text = capsys.readouterr().out
    assert "COMPLETED" in text
    assert "2 of 10" in text


def test_why_tells_the_story_as_text_and_as_json(work: Path, capsys: Out) -> None:
    made = MadeRun(work / "runs", kind="local")
    made.begin(step=0)
    made.steps([1, 2])
    made.end(Ending.failed, "rank 0 on n1: KeyError: 'x'", advice="read the traceback in the rank's log")
    assert main(["why", "last"]) == 0
    text = capsys.readouterr().out
    assert "bug: rank 0 on n1: KeyError" in text
    assert "to change   read the traceback" in text
    assert answer(capsys, "why", "last")["attempts"][0]["failure"] == "bug"


def test_logs_prints_a_ranks_log(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    made = MadeRun(work / "runs")
    made.run.attempt(made.begin()).rank_log(1).write_bytes(b"caf\xe9\n")
    assert main(["logs", "last", "--rank", "1"]) == 0
    assert capfdbinary.readouterr().out == b"caf\xe9\n"


def test_logs_of_a_run_without_any_exit_3(submitted: RunDir) -> None:
    assert main(["logs", "last", "--attempt", "4"]) == 3


def test_a_running_job_is_told_to_stop_with_a_checkpoint(submitted: RunDir, slurm: FakeSlurm, capsys: Out) -> None:
    slurm.state("RUNNING")
    assert main(["cancel", "last"]) == 0
    assert slurm.calls("scancel") == ["--signal=TERM 42"]
    assert "writes a checkpoint" in capsys.readouterr().out


def test_a_waiting_job_is_withdrawn(submitted: RunDir, slurm: FakeSlurm, capsys: Out) -> None:
    assert main(["cancel", "last"]) == 0
    assert slurm.calls("scancel") == ["42"]
    slurm.state(None)
    assert answer(capsys, "status", "last")["state"] == "CANCELLED"


def test_a_run_that_ended_cannot_be_cancelled(work: Path, slurm: FakeSlurm, capsys: Out) -> None:
    made = MadeRun(work / "runs")
    made.begin(step=0)
    made.end(Ending.completed)
    assert main(["cancel", "last"]) == 2
    assert "COMPLETED" in capsys.readouterr().err


def test_a_run_that_is_queued_needs_no_resume(submitted: RunDir, capsys: Out) -> None:
    assert main(["resume", "last"]) == 2
    assert "QUEUED" in capsys.readouterr().err


def test_a_resume_queues_the_run_again_with_what_was_typed(submitted: RunDir, slurm: FakeSlurm, capsys: Out) -> None:
    slurm.state(None)
    answered = answer(capsys, "resume", "last", "train.max_steps=90", "cluster.time_min=5")
    assert answered["run_dir"] == str(submitted.root)
    assert len(slurm.calls("sbatch")) == 2
    plan = json.loads(submitted.plan.read_text())
    assert (plan["config"]["train"]["max_steps"], plan["slurm"]["time"]) == (90, 5)
    assert answer(capsys, "status", "last")["state"] == "QUEUED"


def test_a_resume_that_would_make_another_run_of_it_is_refused(
    submitted: RunDir, slurm: FakeSlurm, capsys: Out
) -> None:
    slurm.state(None)
    before = submitted.plan.read_text()
    assert main(["resume", "last", "train.seed=8", "data.seq_len=32"]) == 2
    seen = capsys.readouterr().err
    assert "train.seed" in seen
    assert "data.seq_len" in seen
    assert submitted.plan.read_text() == before


def test_a_followed_run_that_fails_exits_5_with_its_reason(
    demo: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr("launcher.runs.follow.LOOK_S", 0.01)
    (slurm.bin / "squeue").write_text(
        "#!/bin/bash\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n"
    )
    assert main(["submit", "demo", "cluster=devslurm", "cluster.data_job.enabled=false", "--follow", "--json"]) == 5
    seen = capsys.readouterr()
    assert "left the queue without a word" in seen.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--then", "exprot"], "'exprot' is no stage"),
        (["--then", "eval"], "eval of what?"),
        (["--then", "export", "--tasks", "a.yaml"], "add --then eval"),
        (["--then", "eval", "--tasks", ","], "it names none"),
        (["--then", "eval", "--tasks", "it's none.yaml"], "it's none.yaml"),
    ],
)
def test_what_is_to_follow_is_understood_or_refused(
    demo: Path, work: Path, slurm: FakeSlurm, capsys: Out, words: list[str], told: str
) -> None:
    assert main(["submit", "demo", "cluster=devslurm", *words]) in (2, 3)
    assert told in capsys.readouterr().err
    assert list(work.iterdir()) == []
    assert slurm.calls("sbatch") == []


def test_what_follows_is_planned_submitted_and_shown_with_the_run(
    demo: Path, work: Path, slurm: FakeSlurm, capsys: Out
) -> None:
    words = ["demo", "cluster=devslurm", "cluster.data_job.enabled=false", "--then", "export"]
    slurm.refuse_after(2, "")
    assert main(["submit", *words, "--dry-run"]) == 0
    assert "export: a job of 1 CPU core and 3 GB" in capsys.readouterr().out
    submitted = answer(capsys, "submit", *words)
    assert submitted["then"] == {"export": "43"}
    assert "then.export=true" in RunDir(Path(submitted["run_dir"])).overrides.read_text().splitlines()
    assert main(["status", "last"]) == 0
    page = capsys.readouterr().out
    assert "stages      train   QUEUED     job 42" in page
    assert "            export  QUEUED     job 43: after job 42 (train)" in page
    assert main(["ls"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert (heading.split()[-1], row.split()[-2:]) == ("THEN", ["export", "QUEUED"])
    assert main(["cancel", "last"]) == 0
    assert "export was withdrawn" in capsys.readouterr().out
    assert slurm.calls("scancel") == ["42", "43"]
