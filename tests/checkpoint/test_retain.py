"""Which checkpoints stay; and that the last good one does, whatever the policy says."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from launcher.checkpoint.manifest import committed_steps, step_folder
from launcher.checkpoint.retain import HeldOut, Policy, prune, to_remove
from tests.checkpoint.folders import commit_step

counts = st.none() | st.integers(1, 5)
steps_with_losses = st.dictionaries(st.integers(1, 60), st.none() | st.floats(0, 10), max_size=25)


@given(steps_with_losses, counts, counts, counts)
def test_exactly_what_nothing_keeps_goes(
    found: dict[int, float | None], last: int | None, every: int | None, best: int | None
) -> None:
    steps = list(found)
    losses = {step: loss for step, loss in found.items() if loss is not None}
    going = to_remove(steps, Policy(last=last, every=every, best=best), losses)
    assert going == sorted(set(going))
    staying = set(steps) - set(going)
    if last is None:
        assert not going
        return
    assert set(sorted(steps)[-last:]) <= staying
    for step in going:
        assert every is None or step % every != 0
        if best is not None and step in losses:
            assert sum(losses[other] <= losses[step] for other in staying & losses.keys()) >= best
    # Nothing stays without a reason.
    reasons = last + (len(steps) if every is not None else 0) + (best or 0)
    assert len(staying) <= reasons


@given(steps_with_losses, st.integers(1, 5), counts, counts)
def test_what_was_spared_is_spared_again(
    found: dict[int, float | None], last: int, every: int | None, best: int | None
) -> None:
    policy = Policy(last=last, every=every, best=best)
    losses = {step: loss for step, loss in found.items() if loss is not None}
    staying = [step for step in found if step not in to_remove(list(found), policy, losses)]
    assert to_remove(staying, policy, losses) == []


def test_the_newest_the_round_and_the_best_stay() -> None:
    losses = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: 4.0, 60: 5.0}
    assert to_remove(list(losses), Policy(last=1, every=30, best=1), losses) == [10, 20, 50]


def test_a_damaged_newest_checkpoint_does_not_cost_the_last_good_one(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        commit_step(tmp_path, step)
    (step_folder(tmp_path, 20) / "a.pt").write_bytes(b"cut")
    (step_folder(tmp_path, 15) / "a.pt").unlink()
    assert prune(tmp_path, Policy(last=1), {}) == [5, 15]
    assert committed_steps(tmp_path) == [10, 20]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step-00000010", "step-00000020"]


def test_conversions_go_with_their_checkpoint(tmp_path: Path) -> None:
    for step in (5, 10):
        commit_step(tmp_path, step)
        (tmp_path / f"universal-{step:08d}").mkdir()
    prune(tmp_path, Policy(last=1), {})
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [
        "step-00000010",
        "universal-00000010",
    ]


def test_the_latest_evaluation_of_a_step_counts(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    losses = HeldOut(metrics, "eval_loss")
    assert losses.read() == {}
    with metrics.open("w") as file:
        for step, loss in ((0, 9.0), (10, 2.0), (20, 3.0), (30, None)):
            file.write(json.dumps({"step": step, "loss": 1.0}) + "\n")
            file.write(json.dumps({"step": step, "eval_loss": loss}) + "\n")
        file.write('{"step": 40, "eval_lo')
    assert losses.read() == {0: 9.0, 10: 2.0, 20: 3.0}
    with metrics.open("a") as file:
        file.write('ss": 1.5}\n{"broken "eval_loss"\n' + json.dumps({"step": 10, "eval_loss": 4}) + "\n")
    assert losses.read() == {0: 9.0, 10: 4.0, 20: 3.0, 40: 1.5}


def test_what_is_better_is_said_by_a_measure_and_not_by_the_name_of_its_set() -> None:
    less = ("eval_loss", "eval_general_loss", "eval_general_loss_change", "eval_x_perplexity", "eval_calibration_error")
    more = ("eval_accuracy", "eval_error_cases_accuracy", "eval_loss_making_token_accuracy", "eval_f1_macro")
    assert [HeldOut.cost(name, 2.0) for name in (*less, *more)] == [2.0] * len(less) + [-2.0] * len(more)
