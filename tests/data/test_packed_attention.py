"""Rows that share a sequence do not see each other, and train as if each were alone: several families, every kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers.modeling_flash_attention_utils as flash
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from launcher.data.feed.batches import IGNORED, Layout, MicroBatch, eval_batches, micro_batches
from launcher.data.feed.samples import Samples
from launcher.data.tokens import TokenStore
from launcher.objectives import registry
from tests.data.conftest import MakeStore

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
LAYERS = ["sliding_attention", "full_attention"]
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen": Qwen3Config(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
    "gemma": Gemma3TextConfig(**SIZES, sliding_window=4, layer_types=LAYERS),
}
KERNELS = ["eager", "sdpa", "flash_attention_2"]
SFT = registry.load("sft")
LENGTHS = [9, 3, 7, 1, 12, 5, 2, 8, 6, 4]


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    """Ten rows of random tokens, about half of them trained."""
    draw = np.random.default_rng(0)
    return make_store(
        [(draw.integers(0, 64, n).tolist(), [False, *(draw.random(n - 1) < 0.5).tolist()]) for n in LENGTHS], seq_len=14
    )


Rows = torch.Tensor


def attend(q: Rows, k: Rows, v: Rows, *, causal: bool, softmax_scale: float, window: tuple[int, int]) -> Rows:
    """What flash attention computes for one row of [length, heads, head_dim]."""
    q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    k, v = (part.repeat_interleave(q.shape[0] // k.shape[0], dim=0) for part in (k, v))
    place = torch.arange(q.shape[1])
    seen = place[:, None] >= place if causal else torch.ones(len(place), len(place), dtype=torch.bool)
    if window[0] >= 0:
        seen = seen & (place[:, None] - place <= window[0])
    scores = q @ k.transpose(1, 2) * softmax_scale
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1)


def varlen(
    q: Rows,
    k: Rows,
    v: Rows,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float = 1.0,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Rows:
    """`flash_attn_varlen_func`, by its documentation: rows end to end, attention within each."""
    assert cu_seqlens_q.tolist() == cu_seqlens_k.tolist()
    assert max_seqlen_q == max_seqlen_k == max(np.diff(cu_seqlens_q))
    bounds = itertools.pairwise(cu_seqlens_q.tolist())
    kwargs: dict[str, Any] = {"causal": causal, "softmax_scale": softmax_scale, "window": window_size}
    return torch.cat([attend(q[a:b], k[a:b], v[a:b], **kwargs) for a, b in bounds])


def fixed(q: Rows, k: Rows, v: Rows, **kwargs: Any) -> Rows:
    """`flash_attn_func`: rows of one length, [batch, length, heads, head_dim]."""
    bounds = torch.tensor([0, q.shape[1]])
    longest = q.shape[1]
    return torch.stack(
        [varlen(*parts, bounds, bounds, longest, longest, **kwargs) for parts in zip(q, k, v, strict=True)]
    )


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], PreTrainedModel]:
    """A tiny model of a family on a kernel; flash attention's own functions, which want a GPU, in plain torch."""

    def make(family: str, kernel: str) -> PreTrainedModel:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        on_cpu = "eager" if kernel == "flash_attention_2" else kernel
        model: PreTrainedModel = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation=on_cpu)
        if kernel == "flash_attention_2":
            model.config._attn_implementation = kernel
            monkeypatch.setattr(flash, "_loaded_implementation", kernel)
            monkeypatch.setattr(flash, "_flash_fn", fixed)
            monkeypatch.setattr(flash, "_flash_varlen_fn", varlen)
            monkeypatch.setattr(flash, "_process_flash_kwargs_fn", flash._lazy_define_process_function(varlen))
        return model.eval()

    return make


def one_batch(samples: Samples, *, flat: bool) -> MicroBatch:
    """All samples."""
    layout = Layout(micro_batch_size=len(samples), pad_id=0, flat=flat)
    (batch,) = micro_batches(samples, layout, chosen=np.arange(len(samples)), rank=0, data_parallel_size=1)
    return batch


def places(samples: Samples, *, flat: bool) -> Iterator[tuple[int, int, int]]:
    """Every row with its sequence in that batch and the place in it where it begins."""
    start = 0
    for number in range(len(samples)):
        start = start if flat else 0
        for row in samples.rows(number):
            yield row, 0 if flat else number, start
            start += len(samples.store.row(row)[0])


def logits(model: PreTrainedModel, batch: MicroBatch) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            **({} if batch.position_ids is None else {"position_ids": batch.position_ids}),
            use_cache=False,
        ).logits
    return found


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_sees_no_token_of_another(
    build: Callable[[str, str], PreTrainedModel], store: TokenStore, family: str, kernel: str
) -> None:
    model = build(family, kernel)
    batch = one_batch(Samples(store, packed=True), flat=kernel == "flash_attention_2")
    assert batch.position_ids is not None
    rows = (batch.position_ids == 0).flatten().cumsum(0).reshape(batch.input_ids.shape)
    assert rows.max() >= len(LENGTHS)
    before = logits(model, batch)
    for row in rows.unique().tolist():
        inside = rows == row
        old = batch.input_ids[inside].clone()
        batch.input_ids[inside] = (old + 17) % 64
        after = logits(model, batch)
        batch.input_ids[inside] = old
        assert torch.equal(after[~inside], before[~inside])
        assert (after[inside] != before[inside]).any(dim=-1).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_in_a_pack_has_the_logits_of_the_row_alone(
    build: Callable[[str, str], PreTrainedModel], store: TokenStore, family: str, kernel: str
) -> None:
    model = build(family, kernel)
    samples, flat = Samples(store, packed=True), kernel == "flash_attention_2"
    found = logits(model, one_batch(samples, flat=flat))
    alone = build(family, "eager")
    for row, place, start in places(samples, flat=flat):
        ids = torch.from_numpy(store.row(row)[0].astype("int64"))
        with torch.no_grad():
            expected = alone(input_ids=ids[None], use_cache=False).logits[0]
        torch.testing.assert_close(found[place, start : start + len(ids)], expected, rtol=1e-4, atol=1e-5)


def loss_and_gradients(model: PreTrainedModel, batches: list[MicroBatch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss per trained token over micro batches, accumulated as the training loop does."""
    model.zero_grad()
    trained = sum(int((batch.labels[:, 1:] != IGNORED).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = SFT.score(model, batch).loss_sum
        (loss / trained).backward()
        total += loss.item()
    return total / trained, {
        name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None
    }


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_loss_and_gradient_of_packs_are_those_of_their_rows(
    build: Callable[[str, str], PreTrainedModel], store: TokenStore, kernel: str, micro: int
) -> None:
    model = build("llama", kernel)
    packed, single = Samples(store, packed=True), Samples(store, packed=False)
    whole = len(packed) // micro * micro
    assert whole // micro > 1
    layout = Layout(micro_batch_size=micro, pad_id=0, flat=kernel == "flash_attention_2")
    in_packs = micro_batches(packed, layout, chosen=np.arange(whole), rank=0, data_parallel_size=1)
    rows = np.array([row for sample in range(whole) for row in packed.rows(sample)])
    plain = Layout(micro_batch_size=1, pad_id=0, flat=False)
    alone = micro_batches(single, plain, chosen=rows, rank=0, data_parallel_size=1)
    loss, gradients = loss_and_gradients(model, in_packs)
    expected, expected_gradients = loss_and_gradients(build("llama", "eager"), alone)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        difference = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert difference < 1e-5, name


@pytest.mark.parametrize("kernel", KERNELS)
def test_held_out_loss_does_not_depend_on_packing(
    build: Callable[[str, str], PreTrainedModel], store: TokenStore, kernel: str
) -> None:
    means: list[float] = []
    for packed in (False, True):
        model = build("llama", kernel if packed else "eager")
        samples = Samples(store, packed=packed)
        layout = Layout(micro_batch_size=3, pad_id=0, flat=kernel == "flash_attention_2")
        batches = [
            batch for rank in range(2) for batch in eval_batches(samples, layout, rank=rank, data_parallel_size=2)
        ]
        with torch.no_grad():
            total = sum(SFT.score(model, batch).loss_sum.item() for batch in batches)
        means.append(total / sum(int((batch.labels != IGNORED).sum()) for batch in batches))
    assert means[1] == pytest.approx(means[0], rel=1e-5)
