"""What answers become: the micro batches of their steps, whichever ranks there are, and again after a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

from launcher.data.feed.batches import IGNORED
from launcher.data.feed.order import Order, checksum
from launcher.data.feed.samples import Samples
from launcher.evaluate.held_out import measured
from launcher.evaluate.sets import HeldOutSet
from launcher.models.generation import Answer, Asked, end_tokens
from launcher.objectives.grpo import Grpo, Options
from launcher.objectives.registry import load
from launcher.publish import read_records
from launcher.runplan import Batch
from launcher.train.answering import Answering
from launcher.train.feed import StepData
from launcher.train.reward import Judge
from launcher.train.rollout import Play
from launcher.train.shown import Shown
from launcher.train.skips import Skip
from launcher.train.speaker import Speaker, speaker_all
from tests.data.conftest import MakeStore, MakeTokenizer, bpe_json, make_store, make_tokenizer

__all__ = ["bpe_json", "make_store", "make_tokenizer"]

JUDGE = "def reward(prompt, answer, reference):\n    return len(answer) % 5 / 4\n"
GROUP = 4
BATCH = Batch(global_batch_size=8, micro_batch_size=2, accumulation=4, data_parallel_size=1, chosen="")
TWO_RANKS = Batch(global_batch_size=8, micro_batch_size=2, accumulation=2, data_parallel_size=2, chosen="")


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def model(vocabulary: int, seed: int = 3) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    made = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=64, eos_token_id=1, **sizes))
    made.module = SimpleNamespace(_supports_logits_to_keep=lambda: True, config=made.config)
    return made


class Stage:
    """Everything that answers need, without a run."""

    def __init__(self, make_store: MakeStore, tokenizer: Any, folder: Path) -> None:
        self.tokenizer = tokenizer
        self.speaker: Speaker | None = None
        rows = [([20 + n, 30 + n, 40, 50, 1], [False, False, n % 2 == 0, True, True]) for n in range(10)]
        self.samples = Samples(make_store(rows), packed=False)
        self.order = Order(seed=5, sizes=self.samples.sizes)
        self.engine = model(len(tokenizer))
        self.other = model(len(tokenizer), seed=4).eval()
        self.shown = folder / "rollouts.jsonl"

    def play(self, batch: Batch = BATCH, rank: int = 0, **options: Any) -> Play:
        values: dict[str, Any] = {"reward": "x.py", "group": GROUP, "max_new_tokens": 6, "at_once": 5, **options}
        player = Grpo(Options(**values))
        config = SimpleNamespace(
            zero=SimpleNamespace(stage=2), train=SimpleNamespace(seed=7), data=SimpleNamespace(seq_len=9)
        )
        parts: Any = SimpleNamespace(
            plan=SimpleNamespace(config=config, batch=batch, train_data=SimpleNamespace(chat_template=None)),
            ranks=SimpleNamespace(rank=rank, attempt=1),
            watchdog=SimpleNamespace(step=lambda: None),
            device=torch.device("cpu"),
            engine=self.engine,
            samples=self.samples,
            order=self.order,
        )
        asks = player.needs.rollouts
        assert asks is not None
        untrained = self.other if asks.untrained else None
        speaker = self.speaker or speaker_all(parts, asks, end_tokens(self.engine.module, self.tokenizer))
        judge = Judge(JUDGE, Path("x.py"))
        answering = Answering(parts, asks, judge, self.tokenizer, speaker)
        return Play(parts, player, asks, answering, untrained, Shown(self.shown))


@pytest.fixture
def stage(make_store: MakeStore, make_tokenizer: MakeTokenizer, tmp_path: Path) -> Stage:
    return Stage(make_store, make_tokenizer(), tmp_path)


def said(data: StepData) -> list[tuple[int, tuple[int, ...]]]:
    """Of each sequence, in order, its question and its tokens."""
    found = []
    for batch in data.batches:
        for place, sample in enumerate(batch.samples):
            found.append((sample, tuple(batch.input_ids[place][batch.row_ids[place] >= 0].tolist())))
    return found


def test_a_steps_batches_hold_its_questions_and_answers(stage: Stage) -> None:
    steps = list(stage.play().steps(0, 3, ()))
    assert [data.step for data in steps] == [0, 1, 2]
    for data in steps:
        sequences = said(data)
        questions = stage.order.samples_of_step(data.step, 2)
        assert [sample for sample, _ in sequences] == np.repeat(questions, GROUP).tolist()
        assert len({ids for _, ids in sequences}) > GROUP
        for sample, ids in sequences:
            prompt = 3 if sample % 2 else 2
            assert ids[:prompt] == (20 + sample, 30 + sample, 40)[:prompt]
            assert len(ids) <= 9
            assert 1 <= len(ids) - prompt <= 6
        assert data.trained == sum(int((batch.labels != IGNORED).sum()) for batch in data.batches)
        assert data.processed == sum(len(ids) for _, ids in sequences)
        assert data.weight == 8
        assert data.fed == checksum(np.repeat(questions, GROUP).tolist())


def test_rewards_and_advantages_are_those_of_the_answers(stage: Stage) -> None:
    play = stage.play()
    (data,) = play.steps(0, 1, ())
    rewards, advantages = [], []
    for batch in data.batches:
        assert batch.played is not None
        assert batch.played.logps is None
        rewards += batch.played.rewards.tolist()
        advantages += batch.played.advantages.tolist()
    tokenizer = stage.tokenizer
    for (sample, ids), reward in zip(said(data), rewards, strict=True):
        answer = tokenizer.decode(ids[3 if sample % 2 else 2 :], skip_special_tokens=True)
        assert reward == len(answer) % 5 / 4
    groups = torch.tensor(rewards, dtype=torch.float64).reshape(-1, GROUP)
    centred = (groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True, correction=0)
    assert torch.tensor(advantages) == pytest.approx(centred.reshape(-1).nan_to_num(0).float(), abs=1e-6)


def test_a_run_that_goes_on_hears_the_same_answers(stage: Stage) -> None:
    straight = [said(data) for data in stage.play().steps(0, 4, ())]
    assert [said(data) for data in stage.play().steps(2, 4, ())] == straight[2:]
    assert straight[0] != straight[1]
    (skipped,) = stage.play().steps(1, 2, [Skip(step=1, count=1, reason="")])
    assert [sample for sample, _ in said(skipped)] == np.repeat(stage.order.samples_of_step(2, 2), GROUP).tolist()


def test_answers_do_not_depend_on_the_number_of_ranks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = stage.play().steps(0, 1, ())
    whole = said(alone)
    parts = [said(next(iter(stage.play(TWO_RANKS, rank).steps(0, 1, ())))) for rank in range(2)]
    merged = [sequence for cut in range(0, 4, 2) for part in parts for sequence in part[cut : cut + 2]]
    assert merged == whole


def test_later_steps_of_a_rollout_know_what_the_model_thought(stage: Stage) -> None:
    first, second = stage.play(updates=2, kl=0.1, temperature=0.7).steps(0, 2, ())
    for later, batch in [*((False, one) for one in first.batches), *((True, one) for one in second.batches)]:
        assert batch.played is not None
        assert (batch.played.logps is not None) is later
        for name, engine in (("logps", stage.engine), ("untrained", stage.other)):
            told = getattr(batch.played, name)
            if told is None:
                continue
            with torch.no_grad():
                outputs = engine(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            logps = (outputs / 0.7).log_softmax(-1)[:, :-1]
            targets = batch.labels[:, 1:]
            expected = logps.gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0][targets != IGNORED]
            assert torch.allclose(told, expected, atol=1e-5)


class Dictated:
    """Says as many tokens as there are in the prompt, and of each what it thinks."""

    def __init__(self) -> None:
        self.awake: list[bool] = []

    @contextmanager
    def awake_all(self) -> Iterator[None]:
        self.awake.append(True)
        yield
        self.awake.append(False)

    def answers(self, prompts: Sequence[Asked], temperature: float, before_forward: Callable[[], None]) -> list[Answer]:
        assert self.awake[-1:] == [True]
        said = [np.arange(40, 40 + len(prompt.ids)) for prompt in prompts]
        return [Answer(ids=ids, logps=-0.01 * ids.astype(np.float32)) for ids in said]


def test_what_another_program_thought_of_its_tokens_stays_with_them(stage: Stage) -> None:
    stage.speaker = speaker = Dictated()
    for data in stage.play(updates=2).steps(0, 2, ()):
        for batch in data.batches:
            assert batch.played is not None
            assert batch.played.sampled is not None
            targets = batch.labels[:, 1:]
            assert batch.played.sampled.tolist() == pytest.approx((-0.01 * targets[targets != IGNORED]).tolist())
    assert speaker.awake == [True, False]
    held_out(stage.play(), stage.samples)
    assert speaker.awake == [True, False] * 2


def held_out(play: Play, samples: Samples, step: int = 4) -> dict[str, float]:
    held_out = HeldOutSet(samples=samples)
    found = play.evaluate_all(held_out, step=step, before_batch=lambda: None, stopped=lambda: False)
    assert found is not None
    return measured(load("grpo", {"reward": "reward.py"}), {"eval": found})


@pytest.mark.parametrize("at_once", [3, 64])
def test_every_held_out_question_is_answered_once(stage: Stage, at_once: int) -> None:
    play = stage.play(at_once=at_once)
    named = held_out(play, stage.samples)
    assert named["eval_loss"] == -named["eval_reward"]
    rewards: list[float] = []
    asked: Sequence[Any] = [entry for entry in read_records(stage.shown) if entry.get("held_out")]
    assert len(asked) == 4
    rewards = [len(entry["answer"]) % 5 / 4 for entry in asked]
    assert rewards == [entry["reward"] for entry in asked]
    assert held_out(stage.play(at_once=1), stage.samples) == pytest.approx(named)
    everything = HeldOutSet(samples=stage.samples)
    assert play.evaluate_all(everything, step=4, before_batch=lambda: None, stopped=lambda: True) is None


def test_a_few_answers_are_shown_once_however_often_a_run_goes_back(stage: Stage) -> None:
    list(stage.play().steps(0, 4, ()))
    before = read_records(stage.shown)
    assert [entry["step"] for entry in before] == [step for step in (1, 2, 3, 4) for _ in range(4)]
    assert len({entry["question"] for entry in before[:4]}) == 2
    list(stage.play().steps(2, 4, ()))
    assert read_records(stage.shown) == before
