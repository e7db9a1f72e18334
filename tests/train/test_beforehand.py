"""A teacher that is asked once: stopped and gone on it has said the same, and what it said is what it would say now."""

from __future__ import annotations

import gc
import itertools
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from launcher.data.feed import largest
from launcher.data.feed.batches import Layout, eval_batches
from launcher.data.feed.largest import LargestStore
from launcher.data.feed.samples import Samples
from launcher.data.tokens import TokenStore
from launcher.errors import StorageError
from launcher.models.forward import trained_logits
from launcher.node.stop import StopFlag
from launcher.objectives.protocol import Teacher
from launcher.train import beforehand
from launcher.train.agree import from_rank0, stopped_all
from launcher.train.beforehand import STOP_BATCHES, Asking
from launcher.train.frozen import let_go
from tests.data.conftest import MakeStore
from tests.data.conftest import make_store as make_store

VOCABULARY = 16
PART = 2 * STOP_BATCHES
SAMPLES = 2 * PART + 3
K = 3
TEMPERATURE = 2.0


@pytest.fixture(autouse=True)
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of this process alone, and parts of few samples."""
    monkeypatch.setattr(largest, "PART_SAMPLES", PART)
    monkeypatch.setattr("launcher.train.beforehand.PART_SAMPLES", PART)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def model() -> PreTrainedModel:
    return build()


def build() -> PreTrainedModel:
    """The teacher: the same wherever it is built."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=VOCABULARY
    )
    built: PreTrainedModel = AutoModelForCausalLM.from_config(shape).eval()
    with torch.no_grad():
        built.lm_head.weight.mul_(30)
    return built


def rows(make_store: MakeStore, *, packed: bool) -> Samples:
    count = SAMPLES * (2 if packed else 1)
    store = make_store([([1 + n % 9, 2 + n % 7, 3], [False, True, True]) for n in range(count)], seq_len=6)
    return Samples(store, packed=packed)


def layout() -> Layout:
    return Layout(micro_batch_size=1, pad_id=0, flat=False)


def ask_as_one_of_two(rank: int, meeting: str, store_folder: Path, folder: Path) -> None:
    """What a rank does, in a process of its own; the second is told to stop in its second part, at first."""
    torch.set_num_threads(1)
    largest.PART_SAMPLES = beforehand.PART_SAMPLES = PART
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    samples = Samples(TokenStore(store_folder), packed=False)
    store = LargestStore(folder, samples, K)
    ear = StopFlag()

    def ask(answers: int) -> bool:
        count = itertools.count()

        def stopped() -> bool:
            ear.signal = signal.SIGTERM if rank == 1 and next(count) == answers else 0
            return stopped_all(ear, torch.device("cpu")) is not None

        teacher = Teacher(path="x", top_k=K, temperature=TEMPERATURE)
        cpu = torch.device("cpu")
        asking = Asking(build(), samples, store, layout(), teacher, cpu, lambda: None, stopped)
        return asking.ask_all(from_rank0(store.missing))

    # Two questions a part.
    assert not ask(3)
    assert ask(99)
    dist.destroy_process_group()


def test_two_ranks_leave_what_one_does(model: PreTrainedModel, make_store: MakeStore, tmp_path: Path) -> None:
    samples = rows(make_store, packed=False)
    assert asked(model, samples, LargestStore(tmp_path / "one", samples, K), answers=99)
    spawn(ask_as_one_of_two, (str(tmp_path / "two meet"), samples.store.folder, tmp_path / "two"), nprocs=2)
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def asked(model: Any, samples: Samples, store: LargestStore, *, answers: int) -> bool:
    """Whether all was asked, by one who is told to stop at that question."""
    heard = iter([*[False] * answers, True])
    teacher = Teacher(path="x", top_k=K, temperature=TEMPERATURE)
    cpu = torch.device("cpu")
    asking = Asking(model, samples, store, layout(), teacher, cpu, lambda: None, lambda: next(heard))
    return asking.ask_all(store.missing())


@pytest.mark.parametrize("packed", [False, True])
def test_stopped_and_gone_on_it_has_said_the_same(
    model: PreTrainedModel, make_store: MakeStore, tmp_path: Path, packed: bool
) -> None:
    samples = rows(make_store, packed=packed)
    straight, halting = (LargestStore(tmp_path / name, samples, K) for name in "ab")
    assert asked(model, samples, straight, answers=99)
    # In the midst of the second part.
    assert not asked(model, samples, halting, answers=3)
    assert halting.missing() == list(range(1, halting.parts))
    assert asked(model, samples, halting, answers=99)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_batch_carries_is_what_the_teacher_would_say_now(
    model: PreTrainedModel, make_store: MakeStore, tmp_path: Path, packed: bool
) -> None:
    samples = rows(make_store, packed=packed)
    store = LargestStore(tmp_path / "told", samples, K)
    assert asked(model, samples, store, answers=99)
    samples.largest = store.read
    wide = Layout(micro_batch_size=2, pad_id=0, flat=packed)
    for batch in eval_batches(samples, wide, rank=0, data_parallel_size=2):
        with torch.no_grad():
            whole = (trained_logits(model, batch)[0] / TEMPERATURE).softmax(dim=-1)
        assert batch.largest is not None
        ids = batch.largest.ids.long()
        assert ids.sort().values.tolist() == whole.topk(K).indices.sort().values.tolist()
        told = batch.largest.logps.exp()
        torch.testing.assert_close(told[:, :K], whole.gather(1, ids), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(told[:, K], 1 - whole.gather(1, ids).sum(dim=1), rtol=1e-3, atol=1e-6)


def test_a_full_disk_is_told_of_when_all_passes_are_made(
    model: PreTrainedModel, make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, passes = rows(make_store, packed=False), []
    store = LargestStore(tmp_path / "told", samples, K)
    store.missing()

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(largest, "_append", full)
    model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(StorageError, match="No space left"):
        asked(model, samples, store, answers=99)
    assert len(passes) == PART
    assert list((tmp_path / "told").iterdir()) == []


def held_bytes() -> int:
    """Of all tensors that anybody knows of."""
    gc.collect()
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if isinstance(one, torch.Tensor)
    }
    return sum(storages.values())


@pytest.mark.parametrize("stage", [0, 3])
def test_let_go_of_its_memory_is_free(monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    import deepspeed

    monkeypatch.setenv("LOCAL_RANK", "0")
    own = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": stage}, "steps_per_print": 10**9}
    shape = LlamaConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=999
    )
    before = held_bytes()
    with deepspeed.zero.Init(config_dict_or_path=own) if stage == 3 else nullcontext():
        held = AutoModelForCausalLM.from_config(shape)
    size = sum(parameter.ds_numel if stage == 3 else parameter.numel() for parameter in held.parameters()) * 4
    if stage == 3:
        held, *_ = deepspeed.initialize(model=held, config=own, dist_init_required=False)
    with torch.no_grad():
        held(input_ids=torch.tensor([[1, 2, 3]]))
    assert held_bytes() >= before + size
    let_go(held)
    assert held_bytes() < before + 0.1 * size
