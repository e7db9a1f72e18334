"""`launcher report`: the page holds what the run measured, and nothing that a run says is taken for markup."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.failures import FailureClass
from launcher.publish import append_record
from launcher.runs.outcome import Ending
from launcher.track.plot import Line, Mark, plot
from tests.fakes import MadeRun

VOID = ("meta", "line", "circle", "polyline", "br")
EVIL = "<script>alert('x')</script>"


class Checked(HTMLParser):
    """A page whose elements all close, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "onload")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def made(root: Path, name: str, **config: object) -> MadeRun:
    run = MadeRun(root, name, kind="local")
    run.run.plan.write_text(json.dumps({"config": {"optim": {"lr": 0.1, **config}, "objective": {"name": "sft"}}}))
    run.begin(step=0, total=10)
    for step, loss in ((0, 2.0), (4, 1.0), (8, 1.5)):
        if step:
            run.steps(range(step - 3, step + 1))
        numbers = {"examples": 3, "tokens": 7, "loss": loss, "token_accuracy": None}
        slices = {"eval": {"lang": {EVIL: numbers, "de": {**numbers, "loss": None}}}}
        append_record(run.run.metrics, {"step": step, "slices": slices, "attempt": 1})
        run.evaluation(step, loss)
        append_record(run.run.samples, {"step": step, "prompt": EVIL, "answer": f"{step} {EVIL}", "attempt": 1})
    run.end(Ending.failed, f"rank 0 said {EVIL}", step=8, failure=FailureClass.bug)
    return run


def test_a_page_holds_what_the_run_measured_and_needs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(tmp_path, "one")
    assert main(["report", "one", "--runs-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(run.run.report)
    text = run.run.report.read_text()
    page = Checked(text)
    assert not {"script", "img", "link", "iframe"} & set(page.seen)
    assert page.links == []
    assert page.seen.count("svg") == 4
    assert page.text.count("rank 0 said <script>") == 1
    for said in ("eval_loss was lowest at step 4", "eval by lang, step 8", "8 <script>", "bug", "FAILED"):
        assert said in page.text
    assert run.run.report.stat().st_mode & 0o777 == 0o600


def test_several_runs_lie_over_one_another_with_the_differences_of_their_configs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two", lr=0.2, eps=1)
    out = tmp_path / "both.html"
    assert main(["report", "one", "two", "--out", str(out), "--json", "--runs-root", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(out)
    assert [run["turned"] for run in told["runs"]] == [{"eval_loss": 4}] * 2
    assert told["runs"][0]["last"]["eval_loss"] == 1.5
    page = Checked(out.read_text())
    assert "optim.lr0.10.2" in page.text
    assert "optim.eps–1" in page.text
    assert "objective.name" not in page.text
    assert "two eval_loss" in page.text


def test_a_run_that_has_done_nothing_has_a_page(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, "new", kind="local", submitted=False)
    assert main(["report", "new", "--runs-root", str(tmp_path)]) == 0
    Checked(run.run.report.read_text())


@pytest.mark.slow
def test_a_million_steps_take_seconds_and_little_room(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, "long", kind="local")
    run.begin(step=0, total=200_000)
    line = '{{"step": {0}, "loss": 2.5, "lr": 0.1, "grad_norm": 1.0, "tokens": 1, "step_time_s": 1.0, "attempt": 1}}\n'
    with run.run.metrics.open("w") as file:
        file.writelines(line.format(step) for step in range(1, 200_001))
    started = time.process_time()
    assert main(["report", "long", "--runs-root", str(tmp_path)]) == 0
    # A fifth of a million here.
    assert time.process_time() - started < 10
    assert run.run.report.stat().st_size < 300_000


def test_a_plot_draws_every_point_within_its_frame() -> None:
    drawn = plot([Line(label="a & b", points=[(0, -5.0), (50, 1e6), (100, 3.0)])], [Mark(step=50, label="<here>")])
    Checked(drawn)
    assert "a &amp; b" in drawn
    assert "&lt;here&gt;" in drawn
    points = drawn.split('points="')[1].split('"')[0].split()
    assert [point.split(",") for point in points] == [["70.0", "226.0"], ["388.0", "12.0"], ["706.0", "226.0"]]
    assert plot([Line(label="none", points=[])]) == ""
    for flat in (0.0, 7.0):
        Checked(plot([Line(label="flat", points=[(3, flat), (9, flat)])]))
    Checked(plot([Line(label="one", points=[(3, 1.0)])]))
