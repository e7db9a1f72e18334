"""The distributed, accumulated, DeepSpeed-driven loss curve is that of a plain loop on one process."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from launcher.data.feed.order import Order
from launcher.data.tokens import TokenStore
from launcher.models.loading import initialise
from tests.workbench import Bench, losses

pytestmark = pytest.mark.train

STEPS, GLOBAL_BATCH, SEED, PEAK = 10, 16, 42, 2e-3


def plain_losses(bench: Bench, store: TokenStore) -> list[float]:
    """Ten steps of AdamW in a loop that shares nothing with the launcher but initial weights and data order."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(bench.root / "model"))
    initialise(model, SEED)
    model.train()
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=1e-8
    )
    curve = []
    for step in range(STEPS):
        rate = PEAK if step == 0 else PEAK * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 1) / (STEPS - 2))))
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss_sum, tokens = torch.zeros(()), 0
        for row in Order(seed=SEED, sizes=(len(store),)).samples_of_step(step, GLOBAL_BATCH):
            ids, trained = (torch.from_numpy(part.astype("int64")) for part in store.row(int(row)))
            log_p = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1], dim=-1)
            mask = trained[1:].bool()
            loss_sum = loss_sum - log_p[mask, ids[1:][mask]].sum()
            tokens += int(mask.sum())
        loss = loss_sum / tokens
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        curve.append(loss.item())
    return curve


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 4), (2, 1), (4, 4)])
def test_losses_equal_those_of_a_plain_loop(bench: Bench, ranks: int, accumulation: int) -> None:
    run = bench.train(
        f"cluster.gpus_per_node={ranks}",
        f"train.micro_batch_size={GLOBAL_BATCH // ranks // accumulation}",
        f"train.global_batch_size={GLOBAL_BATCH}",
        f"train.max_steps={STEPS}",
        "zero.stage=2",
        "data.eval=null",
    )
    stores = [TokenStore(meta.parent) for meta in (bench.root / "runs" / ".data").glob("*/meta.json")]
    # Data that was prepared beside held-out rows has a folder of its own.
    (prepared,) = [store for store in stores if len(store) == 100 and not store.meta.spec["held_out"]]
    expected = plain_losses(bench, prepared)
    assert list(losses(run)) == list(range(1, STEPS + 1))
    assert list(losses(run).values()) == pytest.approx(expected, rel=1e-5)
