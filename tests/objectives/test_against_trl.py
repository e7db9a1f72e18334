"""Every loss that TRL has, too, against TRL's own code on the same numbers."""

from __future__ import annotations

import functools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.data.feed.batches import IGNORED, MicroBatch
from launcher.objectives import registry
from tests.objectives import test_grpo as grpo
from tests.objectives.test_formulas import EXACT, REFERENCE, ROWS, Fixed, batch_of, random_model, scored

pytest.importorskip("trl", reason="a comparison with TRL needs TRL (the dev extra)")

BETTER, WORSE = [0, 2], [1, 3]


class Fused:
    """What TRL makes of a model: log-probabilities of labels; from outputs that are given, one call after another."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        self._outputs = list(outputs)
        self.training = False

    def __call__(self, *, labels: torch.Tensor, **_: Any) -> Any:
        targets = labels[:, 1:]
        logps = self._outputs.pop(0)[:, :-1].log_softmax(dim=-1)
        chosen = logps.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        nothing = torch.zeros_like(chosen)
        return SimpleNamespace(
            log_probs=chosen * (targets != IGNORED), entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )


def trainer(**settings: Any) -> Any:
    """As much of a trainer as its loss looks at."""

    def same(value: Any) -> Any:
        return value

    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        **settings,
    )


def row_logps(model: Fixed, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Per row the sum over trained tokens, and their mean."""
    logps = Fused(model.outputs)(labels=batch.labels).log_probs
    return logps.sum(dim=1), logps.sum(dim=1) / (batch.labels != IGNORED).sum(dim=1)


@pytest.mark.parametrize(("ours", "theirs"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_dpo_and_ipo_are_trls(ours: str, theirs: str) -> None:
    from trl import DPOTrainer

    batch = batch_of(ROWS, reference=torch.tensor(REFERENCE))
    model, order = random_model(batch), BETTER + WORSE
    inputs = {
        "input_ids": batch.input_ids[order],
        "attention_mask": batch.attention_mask[order],  # type: ignore[index]
        "completion_mask": (batch.labels != IGNORED)[order].long(),
        "ref_chosen_logps": torch.tensor(REFERENCE)[BETTER],
        "ref_rejected_logps": torch.tensor(REFERENCE)[WORSE],
    }
    stub = trainer(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[theirs],
        loss_weights=[1.0],
        beta=0.3,
        use_weighting=False,
    )
    expected = DPOTrainer._compute_loss(stub, Fused(model.outputs[order]), inputs, False)
    found = scored("dpo", {"loss": ours, "beta": 0.3}, model, batch).loss_sum / 2
    assert found.item() == pytest.approx(expected.item(), rel=EXACT)


def test_cdpo_is_trls_conservative_loss() -> None:
    # TRL has it among CPO's: of log-ratios it is cDPO.
    from trl.experimental.cpo import CPOTrainer

    batch = batch_of(ROWS, reference=torch.tensor(REFERENCE))
    model = random_model(batch)
    ratios = row_logps(model, batch)[0] - torch.tensor(REFERENCE)
    stub = trainer(alpha=0.0, loss_type="sigmoid", beta=0.3, label_smoothing=0.2)
    losses, *_ = CPOTrainer.cpo_loss(stub, ratios[BETTER], ratios[WORSE])
    found = scored("dpo", {"loss": "cdpo", "beta": 0.3, "label_smoothing": 0.2}, model, batch).loss_sum
    assert found.item() == pytest.approx(losses.sum().item(), rel=EXACT)


def test_simpo_is_trls() -> None:
    from trl.experimental.cpo import CPOTrainer

    batch = batch_of(ROWS)
    model = random_model(batch)
    means = row_logps(model, batch)[1]
    stub = trainer(alpha=0.0, loss_type="simpo", simpo_gamma=0.4, beta=2.0, label_smoothing=0.0)
    losses, *_ = CPOTrainer.cpo_loss(stub, means[BETTER], means[WORSE])
    found = scored("dpo", {"loss": "simpo", "beta": 2.0, "gamma": 0.4}, model, batch).loss_sum
    assert found.item() == pytest.approx(losses.sum().item(), rel=EXACT)


def test_orpos_odds_are_trls() -> None:
    from trl.experimental.orpo import ORPOTrainer

    batch = batch_of(ROWS)
    model = random_model(batch)
    means = row_logps(model, batch)[1]
    odds, *_ = ORPOTrainer.odds_ratio_loss(trainer(beta=0.3), means[BETTER], means[WORSE])
    found = scored("dpo", {"loss": "orpo", "beta": 0.3}, model, batch).loss_sum
    # As TRL's does, beside the cross-entropy of the better answers, which TRL takes over the whole batch's tokens.
    assert (found + means[BETTER].sum()).item() == pytest.approx(-odds.sum().item(), rel=5 * EXACT)


def test_the_reward_loss_is_trls() -> None:
    from trl import RewardTrainer

    batch = batch_of(ROWS)
    model = random_model(batch, width=1)
    last = [(batch.row_ids == row).nonzero()[-1].tolist() for row in (*BETTER, *WORSE)]
    scores = torch.stack([model.outputs[place, position] for place, position in last])
    stub = trainer(args=SimpleNamespace(center_rewards_coefficient=0.1))
    inputs = {"attention_mask": batch.attention_mask, "margin": torch.tensor([0.5, 0.5])}
    expected = RewardTrainer.compute_loss(stub, lambda **_: SimpleNamespace(logits=scores), inputs)
    found = scored("reward", {"margin": 0.5, "center": 0.1}, model, batch).loss_sum / 2
    assert found.item() == pytest.approx(expected.item(), rel=EXACT)


@pytest.mark.parametrize("moved", [-20.0, 3.0])
def test_kto_is_trls(moved: float) -> None:
    from trl import KTOTrainer

    labels = [True, False, True, True]
    mismatched = batch_of(ROWS[::-1], reference=torch.tensor(REFERENCE) - moved)
    batch = batch_of(
        ROWS,
        reference=torch.tensor(REFERENCE),
        targets=torch.tensor(labels, dtype=torch.float32)[:, None],
        mismatched=mismatched,
    )
    model, others = random_model(batch), Fixed(torch.randn(*mismatched.input_ids.shape, 7))
    inputs = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "completion_mask": (batch.labels != IGNORED).long(),
        "KL_input_ids": mismatched.input_ids,
        "KL_attention_mask": mismatched.attention_mask,
        "KL_completion_mask": (mismatched.labels != IGNORED).long(),
        "label": torch.tensor(labels),
        "ref_logps": torch.tensor(REFERENCE),
        "ref_KL_logps": mismatched.reference,
    }
    stub = trainer(
        calculate_KL=True, loss_type="kto", beta=0.3, desirable_weight=0.7, undesirable_weight=1.5, _tp_size=1
    )
    stub._compute_kl_logps = functools.partial(KTOTrainer._compute_kl_logps, stub)
    expected = KTOTrainer._compute_loss(stub, Fused(others.outputs, model.outputs), inputs, False)
    objective: Any = registry.load("kto", {"beta": 0.3, "desirable_weight": 0.7, "undesirable_weight": 1.5})
    objective.look_all(others, [batch])
    found = objective.score(model, batch).loss_sum / 4
    assert found.item() == pytest.approx(expected.item(), rel=EXACT)
    (point,) = stub._metrics["eval"]["kl"]
    assert objective.score(model, batch).sums["reference_point"].item() / 4 == pytest.approx(point, rel=EXACT)
    assert (point > 0) is (moved > 0)


@pytest.mark.parametrize(("loss", "beta"), [("forward", 0.0), ("reverse", 1.0), ("jsd", 0.3)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_is_trls(loss: str, beta: float, temperature: float) -> None:
    from trl.experimental.gkd import GKDTrainer

    batch = batch_of(ROWS)
    model, teacher = random_model(batch), torch.randn(*batch.input_ids.shape, 7)
    expected = GKDTrainer.generalized_jsd_loss(
        model.outputs[:, :-1],
        teacher[:, :-1],
        batch.labels[:, 1:],
        beta=beta,
        temperature=temperature,
        reduction="sum",
    )
    options = {"teacher": "x", "loss": loss, "beta": beta if loss == "jsd" else 0.5, "temperature": temperature}
    objective: Any = registry.load("distill", options)
    objective.learn_from(lambda batch: teacher[:, :-1][batch.labels[:, 1:] != IGNORED])
    # TRL leaves Hinton's temperature² out.
    found = objective.score(model, batch).loss_sum / temperature**2
    assert found.item() == pytest.approx(expected.item(), rel=EXACT)


def padded(rows: list[list[float]]) -> torch.Tensor:
    """[rows, longest], filled up with zeros."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo"])
def test_learning_from_rewards(loss: str) -> None:
    """DAPO is left out: TRL divides by the tokens of the whole batch, the paper (eq. 8) by those of a group."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    model, batch, now, old, reference = grpo.case()
    made = grpo.objective(loss)
    full = batch_of(ROWS, played=grpo.played(made, batch, old, reference))
    assert full.played is not None
    values, mask = padded(now), padded([[1.0] * len(row) for row in now])
    fake = trainer(
        beta=grpo.KL,
        epsilon_low=grpo.LOW,
        epsilon_high=grpo.HIGH,
        loss_type=loss,
        max_completion_length=grpo.MOST,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (values, torch.zeros_like(values), None),
    )
    fake.accelerator.reduce = lambda value, reduction: value
    inputs = {
        **{f"{name}_ids": torch.zeros_like(mask).long() for name in ("prompt", "completion")},
        **{f"{name}_mask": mask for name in ("prompt", "completion")},
        "advantages": full.played.advantages,
        "old_per_token_logps": padded(old),
        "ref_per_token_logps": padded(reference),
    }
    told = GRPOTrainer._compute_loss(fake, None, inputs)
    assert made.score(model, full).loss_sum.item() == pytest.approx(len(now) * told.item(), rel=EXACT)
