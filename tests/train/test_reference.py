"""The pass over the untrained model goes on where it was stopped, and what it wrote is asked for by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from launcher.data.feed.batches import Layout
from launcher.data.feed.mismatched import mismatched_row
from launcher.data.feed.samples import Samples
from launcher.errors import UserError
from launcher.rundir import RunDir
from launcher.train.reference import CHUNK_BATCHES, Reference, reference_all
from tests.data.conftest import MakeStore
from tests.data.conftest import make_store as make_store

ROWS = 3 * CHUNK_BATCHES + 2
CPU = torch.device("cpu")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    shape = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16)
    built: PreTrainedModel = AutoModelForCausalLM.from_config(shape)
    return built


def asked(model: PreTrainedModel, samples: Samples, place: Reference, *, chunks: int, trained: bool = False) -> bool:
    """Whether all was asked, by one who is told to stop after so many chunks."""
    heard = iter([*[False] * chunks, True])
    return reference_all(
        model,
        samples,
        Layout(micro_batch_size=1, pad_id=0, flat=False),
        place,
        trained=trained,
        device=CPU,
        before_batch=lambda: None,
        stopped=lambda: next(heard),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_stopped_and_gone_on_it_has_said_the_same(
    group: None, model: PreTrainedModel, make_store: MakeStore, tmp_path: Path, packed: bool
) -> None:
    store = make_store([([1 + n % 9, 2 + n % 7, 3], [False, True, True]) for n in range(ROWS)], seq_len=6)
    samples = Samples(store, packed=packed)
    straight, halting = RunDir(tmp_path / "a"), RunDir(tmp_path / "b")
    for run in (straight, halting):
        run.root.mkdir()
    assert asked(model, samples, Reference.of(straight, samples), chunks=9)
    assert samples.reference is not None
    assert (samples.reference < 0).all()
    place = Reference.of(halting, samples)
    assert not asked(model, samples, place, chunks=1)
    assert place.done() == CHUNK_BATCHES
    assert asked(model, samples, place, chunks=9)
    assert place.values.read_bytes() == Reference.of(straight, samples).values.read_bytes()
    assert model.training


def test_a_rows_two_numbers_are_its_own_and_that_of_its_prompt_with_anothers_answer(
    group: None, model: PreTrainedModel, make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store([([1 + n % 9, 2 + n % 7, 3], [False, True, True]) for n in range(ROWS)])
    samples, alone = Samples(store, packed=False, mismatched=True), Samples(store, packed=False)
    run, plain = RunDir(tmp_path / "run"), RunDir(tmp_path / "plain")
    for folder in (run, plain):
        folder.root.mkdir()
    assert asked(model, samples, Reference.of(run, samples), chunks=9)
    assert asked(model, alone, Reference.of(plain, alone), chunks=9)
    assert samples.reference is not None
    assert samples.mismatched_reference is not None
    assert alone.reference is not None
    assert samples.reference.tolist() == alone.reference.tolist()
    for row in range(ROWS):
        ids, trained = mismatched_row(store, row)
        with torch.no_grad():
            logps = model(input_ids=torch.tensor(ids.astype("int64"))[None]).logits[0].log_softmax(dim=-1)
        expected = sum(float(logps[at - 1, int(ids[at])]) for at in range(len(ids)) if trained[at])
        assert samples.mismatched_reference[row] == pytest.approx(expected, rel=1e-5)


def test_after_training_what_is_missing_cannot_be_had(
    group: None, model: PreTrainedModel, make_store: MakeStore, tmp_path: Path
) -> None:
    samples = Samples(make_store([([1, 2], [False, True])] * 4), packed=False)
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    place = Reference.of(run, samples)
    assert asked(model, samples, place, chunks=9)
    assert asked(model, samples, place, chunks=0, trained=True)
    place.values.unlink()
    with pytest.raises(UserError, match="has been trained since"):
        asked(model, samples, place, chunks=9, trained=True)
    # Asked anew, an old word on how far it had got counts for nothing.
    assert not asked(model, samples, place, chunks=0)
    assert place.done() == 0
