"""Real ZeRO checkpoints with every file flipped, cut off, missing or hostile: none is ever chosen to go on from."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.checkpoint.manifest import MANIFEST, step_folder
from tests.workbench import Bench

pytestmark = pytest.mark.train

FLIPS = 20
RANKS = 2


@pytest.fixture(scope="module", params=[2, 3])
def checkpoints(bench: Bench, request: pytest.FixtureRequest) -> Path:
    """Checkpoints at steps 2 and 4 of a run of two ranks."""
    overrides = [f"zero.stage={request.param}", "train.max_steps=4", "checkpoint.every_steps=2", "data.eval=null"]
    return bench.train(*overrides) / "checkpoints"


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """The file with other content, or gone, while the block runs."""
    kept = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    yield
    path.write_bytes(kept)


def damages(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Ways to break a file; the places of the flips are spread over all of it, and its ends are among them."""
    content, chance = path.read_bytes(), random.Random(path.name)
    places = {0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(FLIPS - 2))}
    for place in sorted(places):
        flipped = content[place] ^ (1 << chance.randrange(8))
        yield f"flipped at {place}", content[:place] + bytes([flipped]) + content[place + 1 :]
    yield "cut in half", content[: len(content) // 2]
    yield "emptied", b""
    yield "removed", None


def _choose(rank: int, port: int, orders: Any, answers: Any) -> None:
    """One rank: for each order says which step it would go on from, and what was passed over."""
    import torch.distributed as dist

    from launcher.checkpoint.resume import newest_good_all

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    while (checkpoints := orders.get()) is not None:
        chosen, passed = newest_good_all(checkpoints)
        answers.put((None if chosen is None else chosen.manifest.step, passed))
    os._exit(0)


@pytest.fixture(scope="module")
def choose() -> Iterator[Any]:
    """What two ranks choose in a folder of checkpoints."""
    context = multiprocessing.get_context("spawn")
    port = 20000 + os.getpid() % 10000
    orders = [context.SimpleQueue() for _ in range(RANKS)]
    answers = [context.SimpleQueue() for _ in range(RANKS)]
    ranks = [
        context.Process(target=_choose, args=(rank, port, orders[rank], answers[rank]), daemon=True)
        for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()

    def ask(checkpoints: Path) -> tuple[int | None, list[tuple[int, str]]]:
        for queue in orders:
            queue.put(checkpoints)
        first, second = (queue.get() for queue in answers)
        assert first == second, "the ranks do not agree"
        found: tuple[int | None, list[tuple[int, str]]] = first
        return found

    yield ask
    for queue in orders:
        queue.put(None)
    for rank in ranks:
        rank.join(30)


def test_no_damage_to_any_file_goes_unnoticed(checkpoints: Path, choose: Any) -> None:
    assert choose(checkpoints) == (4, [])
    folder = step_folder(checkpoints, 4)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 2
    tried = 0
    for path in files:
        for how, content in damages(path):
            with changed(path, content):
                step, passed = choose(checkpoints)
            tried += 1
            assert step == 2, f"{path.name} {how} went unnoticed"
            # A folder without a manifest never was a checkpoint, so nothing is passed over.
            assert [number for number, _ in passed] == ([] if how == "removed" and path.name == MANIFEST else [4])
            assert passed == [] or path.name in passed[0][1] or "manifest" in passed[0][1], passed
    assert tried >= len(files) * (FLIPS + 1)
    assert choose(checkpoints) == (4, [])
