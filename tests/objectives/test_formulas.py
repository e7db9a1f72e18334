"""Every loss against the formula of its paper, written out number by number, in double precision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.data.feed.batches import IGNORED, Largest, MicroBatch
from launcher.models.largest import largest as kept_of
from launcher.objectives import registry
from launcher.objectives.protocol import Looking, Scored

VOCABULARY = 7
EXACT = 1e-6
ROWS = ([3, 1, 4, 1, 5], [3, 1, 6, 2], [2, 0, 5, 5, 5, 1], [2, 0, 1, 3])
"""Two pairs: a better and a worse answer to the same two tokens."""
PROMPT = 2


class Fixed(torch.nn.Module):
    """A model whose outputs are a parameter: nothing stands between a loss and its gradient."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = torch.nn.Parameter(outputs)

    def forward(self, **_: Any) -> Any:
        """The same, whatever is asked."""
        return SimpleNamespace(logits=self.outputs)


def batch_of(rows: Sequence[Sequence[int]], *, packed: bool = False, **changes: Any) -> MicroBatch:
    """Rows side by side, or two to a sequence; what follows the prompt is trained."""
    groups = [rows[at : at + 2] for at in range(0, len(rows), 2)] if packed else [[row] for row in rows]
    width = max(sum(map(len, group)) for group in groups)
    ids = torch.zeros(len(groups), width, dtype=torch.long)
    labels, numbers, number = torch.full_like(ids, IGNORED), torch.full_like(ids, -1), 0
    for place, group in enumerate(groups):
        start = 0
        for row in group:
            stop = start + len(row)
            ids[place, start:stop] = torch.tensor(row)
            labels[place, start + PROMPT : stop] = torch.tensor(row[PROMPT:])
            numbers[place, start:stop] = number
            start, number = stop, number + 1
    facts: dict[str, Any] = {"targets": torch.zeros(len(rows) // 2, 0), "samples": (), "rows": len(rows), **changes}
    return MicroBatch(
        input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=None, labels=labels, row_ids=numbers, **facts
    )


def random_model(batch: MicroBatch, width: int = VOCABULARY) -> Fixed:
    """Outputs drawn at random."""
    return Fixed(torch.randn(*batch.input_ids.shape, width, generator=torch.Generator().manual_seed(7)))


def logps_by_hand(model: Fixed, batch: MicroBatch) -> list[list[float]]:
    """Per row, log p of each trained token, one by one."""
    logps: list[list[float]] = [[] for _ in range(batch.rows)]
    outputs = model.outputs.double().tolist()
    for place, labels in enumerate(batch.labels.tolist()):
        for position, token in enumerate(labels):
            if token != IGNORED:
                scores = outputs[place][position - 1]
                total = math.log(sum(math.exp(score) for score in scores))
                logps[batch.row_ids[place, position]].append(scores[token] - total)
    return logps


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def scored(name: str, options: dict[str, Any], model: torch.nn.Module, batch: MicroBatch) -> Scored:
    return registry.load(name, options).score(model, batch)


REFERENCE = (-5.5, -7.25, -8.0, -3.5)
Formula = Callable[[list[float], list[float], float, float], float]


def dpo(better: list[float], worse: list[float], ref_better: float, ref_worse: float) -> float:
    gap = (sum(better) - ref_better) - (sum(worse) - ref_worse)
    return -math.log(sigmoid(0.3 * gap))


def cdpo(better: list[float], worse: list[float], ref_better: float, ref_worse: float) -> float:
    gap = (sum(better) - ref_better) - (sum(worse) - ref_worse)
    return -0.8 * math.log(sigmoid(0.3 * gap)) - 0.2 * math.log(1 - sigmoid(0.3 * gap))


def ipo(better: list[float], worse: list[float], ref_better: float, ref_worse: float) -> float:
    gap = (sum(better) - ref_better) / len(better) - (sum(worse) - ref_worse) / len(worse)
    return (gap - 1 / (2 * 0.3)) ** 2


def simpo(better: list[float], worse: list[float], ref_better: float, ref_worse: float) -> float:
    return -math.log(sigmoid(0.3 * sum(better) / len(better) - 0.3 * sum(worse) / len(worse) - 0.4))


def orpo(better: list[float], worse: list[float], ref_better: float, ref_worse: float) -> float:
    odds = []
    for logps in (better, worse):
        probability = math.exp(sum(logps) / len(logps))
        odds.append(probability / (1 - probability))
    return -sum(better) / len(better) - 0.3 * math.log(sigmoid(math.log(odds[0] / odds[1])))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("formula", [dpo, cdpo, ipo, simpo, orpo])
def test_a_preference_loss_is_its_papers(formula: Formula, packed: bool) -> None:
    options = {"loss": formula.__name__, "beta": 0.3, "label_smoothing": 0.2, "gamma": 0.4}
    with_reference = registry.load("dpo", options).needs.reference
    assert with_reference is (formula in (dpo, cdpo, ipo))
    batch = batch_of(ROWS, packed=packed, reference=torch.tensor(REFERENCE) if with_reference else None)
    model = random_model(batch)
    logps = logps_by_hand(model, batch)
    expected = sum(formula(logps[at], logps[at + 1], REFERENCE[at], REFERENCE[at + 1]) for at in (0, 2))
    found = scored("dpo", options, model, batch)
    assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)
    found.loss_sum.backward()
    gradient = model.outputs.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_rewards_are_told_as_dpo_defines_them() -> None:
    batch = batch_of(ROWS, reference=torch.tensor(REFERENCE))
    model = random_model(batch)
    sums = [sum(logps) - before for logps, before in zip(logps_by_hand(model, batch), REFERENCE, strict=True)]
    gaps = [0.1 * (sums[0] - sums[1]), 0.1 * (sums[2] - sums[3])]
    found = scored("dpo", {}, model, batch).sums
    assert found["reward_margin"].item() == pytest.approx(sum(gaps), rel=1e-5)
    assert found["reward_accuracy"].item() == sum(gap > 0 for gap in gaps)


def test_the_odds_of_a_certain_answer_are_finite() -> None:
    batch = batch_of(ROWS)
    model = random_model(batch)
    with torch.no_grad():
        for place, position in torch.nonzero(batch.labels != IGNORED).tolist():
            model.outputs[place, position - 1, batch.labels[place, position]] = 60.0
    found = scored("dpo", {"loss": "orpo"}, model, batch).loss_sum
    found.backward()
    assert torch.isfinite(found)
    assert model.outputs.grad is not None
    assert torch.isfinite(model.outputs.grad).all()


def last_by_hand(model: Fixed, batch: MicroBatch) -> list[list[float]]:
    """The outputs at each row's last token."""
    ends = [(batch.row_ids == row).nonzero()[-1].tolist() for row in range(batch.rows)]
    return [model.outputs[place][position].double().tolist() for place, position in ends]


@pytest.mark.parametrize("packed", [False, True])
def test_the_reward_loss_is_bradley_and_terrys(packed: bool) -> None:
    batch = batch_of(ROWS, packed=packed)
    model = random_model(batch, width=1)
    scores = [score for (score,) in last_by_hand(model, batch)]
    pairs = [(scores[0], scores[1]), (scores[2], scores[3])]
    expected = sum(-math.log(sigmoid(better - worse - 0.5)) + 0.1 * (better + worse) ** 2 for better, worse in pairs)
    found = scored("reward", {"margin": 0.5, "center": 0.1}, model, batch)
    assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)
    assert found.sums["accuracy"].item() == sum(better > worse for better, worse in pairs)


@pytest.mark.parametrize("packed", [False, True])
def test_one_class_is_learnt_by_cross_entropy(packed: bool) -> None:
    classes = [2, 0, 1, 2]
    batch = batch_of(ROWS, packed=packed, targets=torch.tensor(classes, dtype=torch.float32)[:, None])
    model = random_model(batch, width=3)
    expected = 0.0
    for scores, truth in zip(last_by_hand(model, batch), classes, strict=True):
        expected -= scores[truth] - math.log(sum(math.exp(score) for score in scores))
    found = scored("classify", {"labels": ["a", "b", "c"]}, model, batch)
    assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)


def test_several_classes_are_learnt_one_by_one() -> None:
    truth = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    batch = batch_of(ROWS, targets=torch.tensor(truth))
    model = random_model(batch, width=3)
    expected = 0.0
    for scores, row in zip(last_by_hand(model, batch), truth, strict=True):
        each = [
            -math.log(sigmoid(score)) if is_one else -math.log(1 - sigmoid(score))
            for score, is_one in zip(scores, row, strict=True)
        ]
        expected += sum(each) / 3
    found = scored("classify", {"kind": "multi", "labels": ["a", "b", "c"]}, model, batch)
    assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)


def test_a_number_is_learnt_by_squared_error() -> None:
    values = [0.5, -1.0, 2.0, 3.5]
    batch = batch_of(ROWS, targets=torch.tensor(values)[:, None])
    model = random_model(batch, width=1)
    errors = [score - value for (score,), value in zip(last_by_hand(model, batch), values, strict=True)]
    found = scored("classify", {"kind": "regression"}, model, batch)
    assert found.loss_sum.item() == pytest.approx(sum(error**2 for error in errors), rel=EXACT)
    assert found.sums["absolute_error"].item() == pytest.approx(sum(map(abs, errors)), rel=1e-5)


def test_f1_and_calibration_are_those_of_the_decisions() -> None:
    outputs = torch.full((4, 6, 2), -30.0)
    batch = batch_of(ROWS, targets=torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
    for row, (first, second) in enumerate([(3.0, 0.0), (0.0, 1.0), (0.0, 2.0), (0.0, 0.5)]):
        place, position = (batch.row_ids == row).nonzero()[-1].tolist()
        outputs[place, position] = torch.tensor([first, second])
    objective = registry.load("classify", {"labels": ["no", "yes"]})
    counts = objective.score(Fixed(outputs), batch).counts
    assert counts is not None
    found = objective.summarise(counts.tolist())
    # Chosen are no, yes, yes, yes: of "no" one of two is found, of "yes" both, and one too many.
    assert found["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["f1_micro"] == pytest.approx(3 / 4)
    confidence = [sigmoid(3.0), sigmoid(1.0), sigmoid(2.0), sigmoid(0.5)]
    bins: dict[int, list[tuple[float, float]]] = {}
    for certain, right in zip(confidence, [1.0, 0.0, 1.0, 1.0], strict=True):
        bins.setdefault(int(certain * 10), []).append((certain, right))
    gaps = [abs(sum(certain for certain, _ in each) - sum(right for _, right in each)) for each in bins.values()]
    assert found["calibration_error"] == pytest.approx(sum(gaps) / 4, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_label_smoothing_spreads_probability_in_training_only(training: bool) -> None:
    batch = batch_of(ROWS)
    model = random_model(batch).train(training)
    expected = 0.0
    for place, position in torch.nonzero(batch.labels != IGNORED).tolist():
        scores = model.outputs[place, position - 1].double().tolist()
        total = math.log(sum(math.exp(score) for score in scores))
        logps = [score - total for score in scores]
        right = logps[int(batch.labels[place, position])]
        expected -= 0.9 * right + 0.1 * sum(logps) / VOCABULARY if training else right
    found = scored("sft", {"label_smoothing": 0.1}, model, batch)
    assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("name", ["dpo", "kto", "reward"])
def test_a_batch_of_fillers_alone_weighs_nothing(name: str) -> None:
    ids = torch.zeros(2, 1, dtype=torch.long)
    batch = MicroBatch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        position_ids=None,
        labels=torch.full_like(ids, IGNORED),
        samples=(),
        row_ids=torch.full_like(ids, -1),
        rows=0,
        targets=torch.zeros(0, 1),
        reference=None if name == "reward" else torch.zeros(0),
    )
    batch = dataclasses.replace(batch, mismatched=batch)
    model = random_model(batch, width=1 if name == "reward" else VOCABULARY)
    objective = registry.load(name)
    if isinstance(objective, Looking):
        objective.look_all(model, [batch])
    found = objective.score(model, batch)
    assert found.loss_sum.item() == 0
    assert all(value.item() == 0 for value in found.sums.values())


def judged(rows: Sequence[int], labels: Sequence[float], *, packed: bool = False) -> MicroBatch:
    """Some of the rows as good and bad answers, with the answers of others to their prompts."""
    others = batch_of(
        [[*ROWS[row][:PROMPT], *ROWS[3 - row][PROMPT:]] for row in rows],
        packed=packed,
        reference=torch.tensor([REFERENCE[row] - 4 for row in rows]),
        targets=torch.zeros(len(rows), 1),
    )
    return batch_of(
        [ROWS[row] for row in rows],
        packed=packed,
        reference=torch.tensor([REFERENCE[row] for row in rows]),
        targets=torch.tensor(labels)[:, None],
        mismatched=others,
    )


class Alike(torch.nn.Module):
    """A model whose outputs follow from the tokens alone, so that several batches can be asked about."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(3))
        self.table = torch.nn.Parameter(drawn)

    def forward(self, *, input_ids: torch.Tensor, **_: Any) -> Any:
        """A row of the table for each token."""
        return SimpleNamespace(logits=self.table[input_ids])

    def fixed(self, batch: MicroBatch) -> Fixed:
        """Its outputs on the batch."""
        return Fixed(self.table[batch.input_ids].detach())


@pytest.mark.parametrize("packed", [False, True])
def test_the_kto_loss_is_its_papers_over_the_whole_batch(packed: bool) -> None:
    labels, model = [1.0, 0.0, 0.0, 1.0], Alike()
    whole = judged(range(4), labels, packed=packed)
    assert whole.mismatched is not None
    ratios = [sum(logps) - REFERENCE[row] for row, logps in enumerate(logps_by_hand(model.fixed(whole), whole))]
    others = logps_by_hand(model.fixed(whole.mismatched), whole.mismatched)
    point = max(0.0, sum(sum(logps) - (REFERENCE[row] - 4) for row, logps in enumerate(others)) / 4)
    assert point > 0
    expected = 0.0
    for ratio, good in zip(ratios, labels, strict=True):
        value = 0.7 * sigmoid(0.3 * (ratio - point)) if good else 1.5 * sigmoid(0.3 * (point - ratio))
        expected += (0.7 if good else 1.5) - value
    options = {"beta": 0.3, "desirable_weight": 0.7, "undesirable_weight": 1.5}
    for cut in ([range(4)], [range(2), range(2, 4)]):
        objective: Any = registry.load("kto", options)
        batches = [judged(rows, [labels[row] for row in rows], packed=packed) for rows in cut]
        objective.look_all(model, iter(batches))
        found = [objective.score(model, batch) for batch in batches]
        assert sum(one.loss_sum.item() for one in found) == pytest.approx(expected, rel=EXACT)
        assert sum(one.sums["reference_point"].item() for one in found) == pytest.approx(4 * point, rel=EXACT)


def test_the_point_that_kto_refers_to_is_never_below_none() -> None:
    batch, model = judged(range(2), [1.0, 0.0]), Alike()
    assert batch.mismatched is not None
    assert batch.mismatched.reference is not None
    batch.mismatched.reference.add_(100)
    objective: Any = registry.load("kto")
    objective.look_all(model, [batch])
    assert objective.score(model, batch).sums["reference_point"].item() == 0


def distributions(outputs: torch.Tensor, batch: MicroBatch, temperature: float) -> list[list[float]]:
    """What is predicted for each trained token, as probabilities."""
    found = []
    for place, position in torch.nonzero(batch.labels != IGNORED).tolist():
        scores = [math.exp(score / temperature) for score in outputs[place, position - 1].double().tolist()]
        found.append([score / sum(scores) for score in scores])
    return found


def kl(one: list[float], other: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(one, other, strict=True))


def jsd(teacher: list[float], student: list[float]) -> float:
    mixture = [0.3 * p + 0.7 * q for p, q in zip(teacher, student, strict=True)]
    return 0.3 * kl(teacher, mixture) + 0.7 * kl(student, mixture)


DIVERGENCES: dict[str, Callable[[list[float], list[float]], float]] = {
    "forward": kl,
    "reverse": lambda teacher, student: kl(student, teacher),
    "jsd": jsd,
}


@pytest.mark.parametrize("loss", DIVERGENCES)
@pytest.mark.parametrize("hard", [0.0, 0.25])
def test_distillation_is_the_divergence_from_the_teacher(loss: str, hard: float) -> None:
    batch = batch_of(ROWS, packed=True)
    model, teacher = random_model(batch), torch.randn(*batch.input_ids.shape, VOCABULARY)
    pairs = zip(distributions(teacher, batch, 2.0), distributions(model.outputs, batch, 2.0), strict=True)
    divergence = 4 * sum(DIVERGENCES[loss](*pair) for pair in pairs)
    surprise = -sum(sum(logps) for logps in logps_by_hand(model, batch))
    options = {"teacher": "x", "loss": loss, "beta": 0.3, "temperature": 2.0, "hard": hard}
    objective: Any = registry.load("distill", options)
    objective.learn_from(lambda batch: teacher[:, :-1][batch.labels[:, 1:] != IGNORED])
    found = objective.score(model, batch)
    assert found.loss_sum.item() == pytest.approx((1 - hard) * divergence + hard * surprise, rel=EXACT)
    assert found.sums["divergence"].item() == pytest.approx(divergence, rel=EXACT)
    assert found.sums["cross_entropy"].item() == pytest.approx(surprise, rel=EXACT)
    found.loss_sum.backward()
    assert model.outputs.grad is not None
    assert model.outputs.grad.abs().sum() > 0


def told_beforehand(teacher: torch.Tensor, batch: MicroBatch, temperature: float, k: int) -> tuple[Largest, list[Any]]:
    """What is kept of a teacher's distributions, and, token by token, the kept ids."""
    kept, ids = [], []
    for probabilities in distributions(teacher, batch, temperature):
        chosen = sorted(range(VOCABULARY), key=lambda token: -probabilities[token])[:k]
        ids.append(chosen)
        others = sum(p for token, p in enumerate(probabilities) if token not in chosen)
        kept.append([*(math.log(probabilities[token]) for token in chosen), math.log(others) if others else -math.inf])
    return Largest(logps=torch.tensor(kept), ids=torch.tensor(ids, dtype=torch.int32)), ids


def coarse(probabilities: list[float], ids: list[int]) -> list[float]:
    """These tokens' probabilities, and that of any other."""
    return [*(probabilities[token] for token in ids), sum(p for n, p in enumerate(probabilities) if n not in ids)]


@pytest.mark.parametrize("loss", DIVERGENCES)
@pytest.mark.parametrize("hard", [0.0, 0.25])
def test_a_teacher_asked_beforehand_is_compared_in_its_likeliest_tokens_and_all_others_together(
    loss: str, hard: float
) -> None:
    plain, k = batch_of(ROWS, packed=True), 3
    model, teacher = random_model(plain), 3 * torch.randn(*plain.input_ids.shape, VOCABULARY)
    largest, ids = told_beforehand(teacher, plain, 2.0, k)
    batch = dataclasses.replace(plain, largest=largest)
    triples = zip(distributions(teacher, batch, 2.0), distributions(model.outputs, batch, 2.0), ids, strict=True)
    expected = 4 * sum(DIVERGENCES[loss](coarse(one, kept), coarse(other, kept)) for one, other, kept in triples)
    surprise = -sum(sum(logps) for logps in logps_by_hand(model, batch))
    options = {"teacher": "x", "loss": loss, "beta": 0.3, "temperature": 2.0, "hard": hard}
    found = scored("distill", {**options, "top_k": k}, model, batch)
    assert found.loss_sum.item() == pytest.approx((1 - hard) * expected + hard * surprise, rel=EXACT)
    found.loss_sum.backward()
    assert model.outputs.grad is not None
    assert model.outputs.grad.isfinite().all()
    whole: Any = registry.load("distill", options)
    whole.learn_from(lambda batch: teacher[:, :-1][batch.labels[:, 1:] != IGNORED])
    assert found.sums["divergence"] < whole.score(model, batch).sums["divergence"]


@pytest.mark.parametrize("loss", DIVERGENCES)
def test_of_all_tokens_it_is_the_teacher_itself_gradients_included(loss: str) -> None:
    batch = batch_of(ROWS)
    teacher = 3 * torch.randn(*batch.input_ids.shape, VOCABULARY)
    judged = teacher[:, :-1][batch.labels[:, 1:] != IGNORED]
    options = {"teacher": "x", "loss": loss, "temperature": 2.0}
    online: Any = registry.load("distill", options)
    online.learn_from(lambda batch: judged)
    logps, ids = kept_of(judged / 2.0, VOCABULARY)
    stored = dataclasses.replace(batch, largest=Largest(logps=logps, ids=ids.int()))
    models = [random_model(batch) for _ in range(2)]
    one, other = (
        online.score(models[0], batch),
        scored("distill", {**options, "top_k": VOCABULARY}, models[1], stored),
    )
    assert other.loss_sum.item() == pytest.approx(one.loss_sum.item(), rel=EXACT)
    for each in (one, other):
        each.loss_sum.backward()
    torch.testing.assert_close(models[0].outputs.grad, models[1].outputs.grad, rtol=1e-5, atol=1e-6)


def test_what_a_teacher_that_is_sure_leaves_to_others_is_not_lost() -> None:
    logits = torch.tensor([[40.0, 0.0, -1.0, -3.0]])
    logps, ids = kept_of(logits, 1)
    assert ids.tolist() == [[0]]
    assert logps[0, 1].item() == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-3)) - 40, rel=EXACT)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_far_from_the_untrained_model_costs_in_training_only(training: bool) -> None:
    batch = batch_of(ROWS)
    model, untrained = random_model(batch).train(training), torch.randn(*batch.input_ids.shape, VOCABULARY)
    pairs = zip(distributions(untrained, batch, 1.0), distributions(model.outputs, batch, 1.0), strict=True)
    divergence = sum(kl(*pair) for pair in pairs)
    surprise = -sum(sum(logps) for logps in logps_by_hand(model, batch))
    objective: Any = registry.load("sft", {"kl": 0.5})
    objective.learn_from(lambda batch: untrained[:, :-1][batch.labels[:, 1:] != IGNORED])
    found = objective.score(model, batch)
    assert found.sums["kl"].item() == pytest.approx(divergence, rel=EXACT)
    assert found.loss_sum.item() == pytest.approx(surprise + 0.5 * divergence * training, rel=EXACT)


def test_an_engine_is_asked_whether_the_model_in_it_trains() -> None:
    batch = batch_of(ROWS)
    engine = torch.nn.Module()
    engine.module = random_model(batch).eval()
    engine.forward = engine.module.forward  # type: ignore[method-assign]
    assert engine.training
    plain = scored("sft", {}, engine.module, batch).loss_sum
    assert scored("sft", {"label_smoothing": 0.1}, engine, batch).loss_sum.item() == plain.item()
