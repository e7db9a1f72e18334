"""Old checkpoints go; the newest good one never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.checkpoint.manifest import committed_steps, step_folder
from launcher.checkpoint.retain import Policy, to_remove
from launcher.cluster.protocol import QueueState
from launcher.errors import UserError
from launcher.runs.outcome import Ending
from launcher.runs.prune import Pruned, ToRemove, prune
from tests.fakes import FakeQueue, MadeRun


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    for step in (2, 4, 6, 8):
        made.checkpoint(step)
    return made


def keeping(last: int) -> ToRemove:
    return lambda steps: to_remove(steps, Policy(last=last), {})


def damage(made: MadeRun, step: int) -> None:
    shard = step_folder(made.run.checkpoints, step) / "rank-1.pt"
    shard.write_bytes(shard.read_bytes()[::-1])


def pruned(made: MadeRun, last: int, *, dry_run: bool = False) -> Pruned:
    if not made.run.attempt(1).outcome.is_file():
        made.end(Ending.completed)
    return prune(made.run, keeping(last), dry_run=dry_run, ask=FakeQueue(QueueState.gone).state)


def test_all_but_the_newest_go(made: MadeRun) -> None:
    found = pruned(made, 2)
    assert (found.removed, found.kept, found.bad) == ([2, 4], [6, 8], {})
    assert committed_steps(made.run.checkpoints) == [6, 8]
    assert sorted(path.name for path in made.run.checkpoints.iterdir()) == ["step-00000006", "step-00000008"]


def test_a_dry_run_removes_nothing(made: MadeRun) -> None:
    assert pruned(made, 1, dry_run=True).removed == [2, 4, 6]
    assert committed_steps(made.run.checkpoints) == [2, 4, 6, 8]


def test_fewer_checkpoints_than_may_stay_all_stay(made: MadeRun) -> None:
    assert pruned(made, 9).removed == []


def test_the_newest_good_one_stays_though_it_is_older_than_those_that_may(made: MadeRun) -> None:
    damage(made, 8)
    damage(made, 6)
    found = pruned(made, 1)
    assert (found.removed, found.kept) == ([2, 6], [4, 8])
    assert found.bad == {8: ["the content of rank-1.pt has changed since it was written"]}


def test_where_none_is_good_none_goes(made: MadeRun) -> None:
    for step in (2, 4, 6, 8):
        damage(made, step)
    found = pruned(made, 1)
    assert (found.removed, sorted(found.bad)) == ([], [2, 4, 6, 8])


def test_an_active_run_is_refused(made: MadeRun) -> None:
    with pytest.raises(UserError, match="RUNNING"):
        prune(made.run, keeping(1), dry_run=False, ask=FakeQueue(QueueState.running).state)
    assert committed_steps(made.run.checkpoints) == [2, 4, 6, 8]
