"""Held-out rows are asked, and their answers scored, alike on any number of ranks and at any ZeRO stage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast

from launcher.data.feed.samples import Samples
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.tokens import TokenStore
from launcher.errors import UserError
from launcher.evaluate import answers as module
from launcher.evaluate.answers import Exam, measured
from launcher.evaluate.scores import METRICS, told
from launcher.evaluate.sets import HeldOutSet
from launcher.publish import read_records
from launcher.train.questions import question_of
from tests.data.conftest import MakeStore, make_store
from tests.evaluate.engines import Engine
from tests.workbench import write_tokenizer

__all__ = ["make_store"]
END = 0


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreTrainedTokenizerFast:
    write_tokenizer(tmp_path / "model")
    monkeypatch.setenv("LAUNCHER_MODEL", str(tmp_path / "model"))
    return load_tokenizer(str(tmp_path / "model"))


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def row(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> tuple[list[int], list[bool]]:
    asked, said = (tokenizer(text)["input_ids"] for text in (question, answer))
    return [*asked, *said, END], [False] * len(asked) + [True] * (len(said) + 1)


def parts(engine: Engine, stage: int, held_out: dict[str, Samples], folder: Path, **asks: Any) -> Any:
    asked = {"metrics": ["squad"], "by_set": {}, "limit": None, "max_new_tokens": 5, "at_once": 2, **asks}
    config = SimpleNamespace(
        evaluate=SimpleNamespace(answers=SimpleNamespace(**asked)),
        zero=SimpleNamespace(stage=stage),
        data=SimpleNamespace(seq_len=60),
    )
    return SimpleNamespace(
        plan=SimpleNamespace(config=config, train_data=SimpleNamespace(chat_template=None)),
        run=SimpleNamespace(answers=folder / "answers.jsonl"),
        ranks=SimpleNamespace(rank=0, attempt=1),
        device=torch.device("cpu"),
        engine=engine,
        held_out={key: HeldOutSet(samples=samples) for key, samples in held_out.items()},
    )


def ask(exam: Exam, passes: list[int] | None = None) -> dict[str, float]:
    found = exam.ask_all(4, lambda: None if passes is None else passes.append(1), lambda: False)
    assert found is not None
    return found


def greedy(engine: Engine, prompt: list[int], most: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + most:
            ids.append(int(engine.module(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == END:
                break
    return ids[len(prompt) :]


def likeliest(engine: Engine, tokenizer: PreTrainedTokenizerFast, questions: list[str], most: int = 5) -> list[str]:
    """What the model says to each, found out without a cache or a batch."""
    engine.module.eval()
    said = [greedy(engine, tokenizer(question)["input_ids"], most) for question in questions]
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in said]


def test_every_row_is_answered_once_and_scored_against_its_own_answer(
    alone: None, make_store: MakeStore, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    engine, questions = Engine(), ["the fox", "dog", "a quick brown", "lazy", "over"]
    said = likeliest(engine, tokenizer, questions)
    wanted = [said[0], "no", f"{said[2]} and more", said[3], ""]
    rows = [row(tokenizer, question, answer) for question, answer in zip(questions, wanted, strict=True)]
    samples = Samples(make_store(rows), packed=False)
    engine.module.train()
    found = ask(Exam(parts(engine, 0, {"eval": samples}, tmp_path), 0))
    assert engine.training
    pairs = list(zip(said, wanted, strict=True))
    assert found == {
        f"eval_{name}": value
        for name, value in told("squad", [METRICS["squad"].score(*pair) for pair in pairs]).items()
    }
    assert 0 < found["eval_exact_match"] < 1
    shown = read_records(tmp_path / "answers.jsonl")
    assert [(one["question"], one["answer"], one["reference"]) for one in shown] == [
        (question, *pair) for question, pair in list(zip(questions, pairs, strict=True))[: module.SHOWN]
    ]
    assert (shown[0]["exact_match"], shown[0]["set"], shown[0]["step"]) == (1, "eval", 4)


@pytest.mark.parametrize("stage", [0, 3])
def test_ranks_share_the_rows_and_no_number_depends_on_how_many_there_are(
    alone: None,
    make_store: MakeStore,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
) -> None:
    rows = [row(tokenizer, f"the fox {number}", "dog") for number in range(7)]
    engine, samples = Engine(), Samples(make_store(rows), packed=False)
    exam = Exam(parts(engine, stage, {"eval": samples}, tmp_path), 0)
    tables: list[torch.Tensor] = []
    asked: list[list[int]] = []

    def as_rank(rank: int, size: int) -> None:
        def heard(questions: Any, *rest: Any) -> Any:
            asked[-1].extend(question.sample for question in questions)
            return Exam._said(exam, questions, *rest)

        asked.append([])
        exam_said.setattr(exam, "_said", heard)
        group = SimpleNamespace(
            get_rank=lambda: rank, get_world_size=lambda: size, all_reduce=lambda table: tables.append(table.clone())
        )
        exam_said.setattr(module, "dist", group)
        ask(exam)

    with monkeypatch.context() as exam_said:
        as_rank(0, 1)
        for rank in range(3):
            as_rank(rank, 3)
    assert asked == [list(range(7)), [0, 1, 6], [2, 3], [4, 5]]
    assert torch.equal(sum(tables[1:]), tables[0])


def test_a_rank_without_a_row_makes_the_passes_that_others_need(
    alone: None,
    make_store: MakeStore,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = Samples(make_store([row(tokenizer, "the fox", "dog")]), packed=False)
    for stage, expected in ((0, 0), (3, 1)):
        exam = Exam(parts(Engine(), stage, {"eval": samples}, tmp_path), 0)
        group = SimpleNamespace(get_rank=lambda: 1, get_world_size=lambda: 2, all_reduce=lambda table: None)
        passes: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(module, "dist", group)
            ask(exam, passes)
        assert len(passes) == expected


def test_a_few_rows_of_each_set_are_asked_and_sets_are_told_apart(
    alone: None,
    make_store: MakeStore,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (said,) = likeliest(Engine(), tokenizer, ["dog"])
    near = [row(tokenizer, "dog", said if number in (0, 4, 8) else "no") for number in range(12)]
    far = [row(tokenizer, "dog", '{"a": 1}') for _ in range(2)]
    folders = [shutil.copytree(make_store(rows).folder, tmp_path_factory.mktemp("set") / "at") for rows in (near, far)]
    sets = {
        "eval_near": Samples(TokenStore(folders[0]), packed=True),
        "eval_far": Samples(TokenStore(folders[1]), packed=False),
        "eval_else": Samples(TokenStore(folders[1]), packed=False),
    }
    by_set = {"far": ["fields", "squad"], "else": []}
    found = ask(Exam(parts(Engine(), 0, sets, tmp_path, by_set=by_set, limit=3), 0))
    assert found["eval_near_exact_match"] == 1
    assert found["eval_far_exact_match"] == 0
    assert found["eval_exact_match"] == pytest.approx(3 / 5)
    assert found["eval_json_valid"] == found["eval_far_json_valid"]
    assert not [name for name in found if name.startswith("eval_else") or name.startswith("eval_near_json")]


def test_who_is_told_to_stop_between_rounds_tells_nothing(
    alone: None, make_store: MakeStore, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    engine = Engine()
    samples = Samples(make_store([row(tokenizer, "dog", "no") for _ in range(5)]), packed=False)
    exam, votes = Exam(parts(engine, 0, {"eval": samples}, tmp_path), 0), iter([False, True])
    assert exam.ask_all(4, lambda: None, lambda: next(votes)) is None
    assert engine.training
    assert not (tmp_path / "answers.jsonl").exists()


def test_rows_whose_answers_cannot_be_scored_against_are_refused(
    alone: None, make_store: MakeStore, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = [row(tokenizer, "dog", text) for text in ('{"a": 1}', "cat")]
    with pytest.raises(UserError, match=r"data\.eval\.x: .*row 2 .*not a JSON object: 'cat'"):
        Exam(parts(Engine(), 0, {"eval_x": Samples(make_store(rows), packed=False)}, tmp_path, metrics=["fields"]), 0)


def test_an_answer_ends_where_its_turn_does(
    alone: None, make_store: MakeStore, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    samples = Samples(make_store([row(tokenizer, "dog", "no")]), packed=False)
    exam = Exam(parts(Engine(), 0, {"eval": samples}, tmp_path), 0)
    ids = question_of(samples, 0).reference
    assert ids[-1] == END
    assert exam._text(ids) == "no"


def test_all_sets_together_weigh_every_answer_alike() -> None:
    found = measured(
        {"eval_a": {"squad": [[1.0, 1.0]] * 3}, "eval_b": {"squad": [[0.0, 0.5]]}, "eval_c": {"squad": []}}
    )
    assert found == {
        "eval_exact_match": 0.75,
        "eval_token_f1": 0.875,
        "eval_a_exact_match": 1,
        "eval_a_token_f1": 1,
        "eval_b_exact_match": 0,
        "eval_b_token_f1": 0.5,
    }
