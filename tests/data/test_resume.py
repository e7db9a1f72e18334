"""Preparations that are killed, or meet each other, end as one that nobody disturbed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.data.make.prepare import Sizes, prepare
from launcher.data.source import DataSpec, Duplicates, Fix, Source
from launcher.plain import plain

WriteRows = Callable[..., Path]
MakeSpec = Callable[..., DataSpec]

# A piece holds one row or two.
PIECE_BYTES = 200
KILLS = 10
# Slow enough that a kill can strike at any place on the way.
PREPARE = """
import json, sys, time
from pathlib import Path
from launcher.data.make.assemble import Assembly
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.source import DataSpec
from launcher.decode import decode
spec, cache, workers, piece_bytes = sys.argv[1:]
sizes = Sizes(piece_bytes=int(piece_bytes), small_bytes=0)
def wait(progress):
    time.sleep(0.05)
def add_slowly(*given, add=Assembly.add):
    time.sleep(0.02)
    add(*given)
Assembly.add = add_slowly
print(prepare(decode(DataSpec, json.loads(spec)), Path(cache), workers=int(workers), report=wait, sizes=sizes))
"""


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def spec(write_rows: WriteRows, make_spec: MakeSpec) -> DataSpec:
    """Two sources with rows of every fate: kept, broken, a duplicate, too long, held out."""
    rows: list[Any] = [chat_row(f"question number {n % 41} of many", "yes " * (n % 5 + 1)) for n in range(60)]
    rows[7], rows[30] = "{broken", chat_row("a" * 200, "b")
    rows[50] = chat_row("one two three four five six seven", "eight nine ten")
    held_out = write_rows([chat_row("Two three, four five six seven", "eight!")], "held-out")
    base = make_spec(write_rows(rows, "1"), write_rows([chat_row(f"other {n}", "no") for n in range(20)], "2"))
    clean = dataclasses.replace(base.clean, broken=Fix.drop, duplicates=Duplicates.exact, contamination=Fix.drop)
    source = Source(name="held-out", paths=(str(held_out),))
    return dataclasses.replace(base, held_out=(source,), clean=dataclasses.replace(clean, ngram=7))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def preparing(spec: DataSpec, cache: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A preparation in a process group of its own, which is gone afterwards."""
    command = [sys.executable, "-c", PREPARE, json.dumps(plain(spec)), str(cache), str(workers), str(PIECE_BYTES)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not happened():
        time.sleep(0.001)


def test_ten_kills_at_random_change_no_byte(spec: DataSpec, tmp_path: Path) -> None:
    undisturbed = prepare(spec, tmp_path / "undisturbed", workers=1, sizes=Sizes(piece_bytes=PIECE_BYTES))
    cache, chance = tmp_path / "cache", random.Random(4)
    reached = []

    def parts() -> int:
        return len(list(cache.glob(".*.work/part-*")))

    for kill in range(KILLS):
        done, more = parts(), chance.randrange(3)
        with preparing(spec, cache, workers=2 if kill % 4 == 1 else 1) as process:
            # The last kills strike while the parts are put together.
            if kill < KILLS - 2:
                wait_until(functools.partial(lambda until: parts() > until, done + more), process)
            else:
                wait_until(lambda: any(cache.glob(".*.work/assembly-*")), process)
            time.sleep(chance.random() / 20)
            process.send_signal(signal.SIGSTOP)
            assert process.poll() is None, "the process must not be done before it is killed"
        reached.append(parts())
    assert reached == sorted(reached), "parts are not made again"
    assert len(set(reached)) > KILLS // 2, "the kills must have struck at different places"
    folder = prepare(spec, cache, workers=1, sizes=Sizes(piece_bytes=PIECE_BYTES))
    assert folder.name == undisturbed.name
    assert contents(folder) == contents(undisturbed)
    assert list(cache.iterdir()) == [folder]


def test_two_at_once_do_not_collide(spec: DataSpec, tmp_path: Path) -> None:
    undisturbed = prepare(spec, tmp_path / "undisturbed", workers=1, sizes=Sizes(piece_bytes=PIECE_BYTES))
    cache = tmp_path / "cache"
    with preparing(spec, cache, workers=1) as one, preparing(spec, cache, workers=1) as other:
        answers = [process.communicate()[0].strip() for process in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0]
    assert answers == [str(cache / undisturbed.name)] * 2
    assert contents(cache / undisturbed.name) == contents(undisturbed)
    assert list(cache.iterdir()) == [cache / undisturbed.name]
