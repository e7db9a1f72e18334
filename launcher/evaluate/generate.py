"""A teacher answers a data set's prompts: sequence-level distillation (Kim & Rush, arXiv:1606.07947, section 3.2).

Owns what is asked of a row, and that an answer is a function of (teacher, row, seed) and of the batch that its row is
in by number: whoever is killed and goes on writes the same file. What is answered is in a journal, and not asked again.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from launcher.data.formats import Conversation, Judged, Labelled, Message, Preference, RowError, to_example
from launcher.data.read import Row, pieces, read, resolved
from launcher.data.render.template import ChatTemplate
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import Source
from launcher.errors import Problem, UserError
from launcher.evaluate.generation_request import JOURNAL, PROGRESS, Generated, GenerationRequest
from launcher.models.dtypes import TORCH_DTYPES
from launcher.models.generation import Asked, answers, end_tokens
from launcher.publish import append_record, publish_json, publish_lines
from launcher.rundir import EvalDir
from launcher.seeds import derive

_PIECE_BYTES = 64 << 20
_CUT_OFF, _TOO_LONG = "answers cut off", "prompts too long"
_NO_PROMPT, _REFUSED = "rows without a prompt and an answer", "prompts that the chat template refuses"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One row's."""

    row: int
    """Number of the row, from 0."""
    ids: tuple[int, ...]
    """Its tokens."""
    before: Conversation
    """The row without its last answer."""


class Engine:
    """A model as `answers` wants it."""

    def __init__(self, model: Any) -> None:
        self.module = model

    def __call__(self, **inputs: Any) -> Any:
        """A forward pass."""
        return self.module(**inputs)


class Generation:
    """One request, and the teacher that answers it."""

    def __init__(self, request: GenerationRequest, place: EvalDir, teacher: Path) -> None:
        """UserError where there is no such teacher, or it cannot be asked."""
        self._request, self._journal, self._progress = request, place.root / JOURNAL, place.root / PROGRESS
        self._sources = [resolved(source) for source in request.sources]
        self._tokenizer = load_tokenizer(str(teacher))
        if not self._tokenizer.chat_template:
            # That of the model which is to learn says nothing to a teacher that has one of its own.
            self._tokenizer = load_tokenizer(str(teacher), request.chat_template)
        model = load_teacher(teacher, request)
        self._engine, self._device = Engine(model), model.device
        self._ends = end_tokens(model, self._tokenizer)

    def run(self) -> Generated:
        """Have everything answered that is not yet, and write the file."""
        request = self._request
        each = max(1, request.batch_size // request.answers)
        total = sum(1 for _ in rows_of(self._sources))
        done = sum(1 for _ in journal_lines(self._journal))
        rows = itertools.islice(enumerate(rows_of(self._sources)), done * each, None)
        while batch := list(itertools.islice(rows, each)):
            append_record(self._journal, self._answered(batch))
            publish_json(self._progress, {"rows": batch[-1][0] + 1, "of": total})
            print(f"{batch[-1][0] + 1:,} of {total:,} rows", flush=True)
        kept, left_out = 0, Counter[str]()
        for record in journal_lines(self._journal):
            kept += len(record["lines"])
            left_out.update(record["left_out"])
        if not kept:
            told = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "there are no rows"
            raise UserError(Problem(where="data.train", message=f"there is no answer to keep: {told}"))
        texts = (f"{line}\n" for record in journal_lines(self._journal) for line in record["lines"])
        publish_lines(Path(request.out), texts)
        return Generated(out=request.out, rows=total, answers=kept, left_out=dict(left_out), seconds=0)

    def _answered(self, batch: Sequence[tuple[int, tuple[Source, Row]]]) -> dict[str, Any]:
        """The journal's line of these rows."""
        request, left_out = self._request, Counter[str]()
        prompts = []
        for number, (source, row) in batch:
            found = self._prompt(number, source, row)
            if isinstance(found, Prompt):
                prompts += [found] * request.answers
            else:
                left_out[found] += 1
        lines = []
        for low in range(0, len(prompts), request.batch_size):
            mine = prompts[low : low + request.batch_size]
            asked = [self._asked(prompt, (low + place) % request.answers) for place, prompt in enumerate(mine)]
            for prompt, ids in zip(mine, self._say(asked), strict=True):
                if int(ids[-1]) not in self._ends:
                    left_out[_CUT_OFF] += 1
                    continue
                lines.append(self._line(prompt, ids.tolist()[:-1]))
        return {"lines": lines, "left_out": dict(left_out)}

    def _say(self, asked: Sequence[Asked]) -> list[Any]:
        return answers(
            self._engine,
            asked,
            ends=self._ends,
            temperature=self._request.temperature,
            together=False,
            device=self._device,
            before_forward=lambda: None,
        )

    def _asked(self, prompt: Prompt, number: int) -> Asked:
        request = self._request
        most = request.seq_len - len(prompt.ids)
        return Asked(
            ids=np.array(prompt.ids, dtype=np.int64),
            most=most if request.max_new_tokens is None else min(most, request.max_new_tokens),
            key=derive(request.seed, "teacher", prompt.row, number),
        )

    def _prompt(self, number: int, source: Source, row: Row) -> Prompt | str:
        """What is asked of a row; why nothing is."""
        before = before_answer(source, row)
        if before is None:
            return _NO_PROMPT
        try:
            ids = self._tokens(before)
        except RowError:
            return _REFUSED
        if not 0 < len(ids) < self._request.seq_len:
            return _TOO_LONG
        return Prompt(row=number, ids=tuple(ids), before=before)

    def _tokens(self, before: Conversation) -> list[int]:
        """Messages in the teacher's template, up to where its answer begins; a plain prompt as it stands."""
        tokenizer = self._tokenizer
        backend = tokenizer.backend_tokenizer
        if before.messages:
            text = self._template(bool(before.tools)).render(before, add_generation_prompt=True)
            return list(backend.encode(text, add_special_tokens=False).ids)
        assert before.plain is not None
        ids = list(backend.encode(before.plain.prompt, add_special_tokens=False).ids)
        first = backend.encode("").ids[:1]
        return ids if first != [tokenizer.bos_token_id] or ids[:1] == first else [*first, *ids]

    def _template(self, has_tools: bool) -> ChatTemplate:
        tokenizer = self._tokenizer
        name = f"the chat template of {tokenizer.name_or_path!r}"
        if not tokenizer.chat_template:
            message = f"{tokenizer.name_or_path} has no chat template, and the rows are messages"
            remedy = "choose another teacher, or rows of plain prompts and completions"
            raise UserError(Problem(where="--teacher", message=message, remedy=remedy))
        text = tokenizer.get_chat_template(tools=[{}] if has_tools else None)
        return ChatTemplate(text, tokenizer.special_tokens_map, name)

    def _line(self, prompt: Prompt, ids: Sequence[int]) -> str:
        """A row of the file, as JSON."""
        said = str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        before = prompt.before
        if before.plain is not None:
            return json.dumps({"prompt": before.plain.prompt, "completion": said}, ensure_ascii=False)
        turns = [_turn(message) for message in (*before.messages, Message(role="assistant", content=said))]
        beside = {name: list(value) for name in ("tools", "documents") if (value := getattr(before, name))}
        return json.dumps({"messages": turns, **beside}, ensure_ascii=False)


def rows_of(sources: Sequence[Source]) -> Iterator[tuple[Source, Row]]:
    """All rows, in order, one in memory at a time."""
    for piece in pieces(sources, _PIECE_BYTES):
        source = sources[piece.source]
        for row in read(piece, source):
            yield source, row


def before_answer(source: Source, row: Row) -> Conversation | None:
    """A row without its last answer, in the form in which it is trained on; None where it has no prompt or no answer.

    Of two answers, or a judged one, neither counts.
    """
    if row.value is None:
        return None
    try:
        example = to_example(row.value, source.format, source.columns)
    except RowError:
        return None
    if isinstance(example, Labelled):
        return None
    found = example.chosen if isinstance(example, Preference) else example
    found = found.conversation if isinstance(found, Judged) else found
    if not found.messages:
        return found if found.plain is not None and found.plain.prompt else None
    last = max(place for place, message in enumerate(found.messages) if message.role == "assistant")
    return replace(found, messages=found.messages[:last], plain=None) if last else None


def load_teacher(folder: Path, request: GenerationRequest) -> Any:
    """The model, in compute precision, spread over the job's GPUs where there are some; UserError where it is none."""
    from transformers import AutoModelForCausalLM

    where: dict[str, Any] = {"device_map": "auto"} if request.accelerated and torch.cuda.is_available() else {}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=TORCH_DTYPES[request.dtype], attn_implementation=request.attention.value, **where
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(Problem(where="--teacher", message=f"{folder} cannot be loaded: {error}")) from error
    return model.eval()


def journal_lines(journal: Path) -> Iterator[dict[str, Any]]:
    """Its whole records, in order, one in memory at a time; a last line that a kill cut off is left out."""
    if not journal.exists():
        return
    with journal.open(encoding="utf-8") as file:
        for line in file:
            try:
                record: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue
            yield record


def _turn(message: Message) -> dict[str, Any]:
    calls = {"tool_calls": list(message.tool_calls)} if message.tool_calls else {}
    return {"role": message.role, "content": message.content, **calls}
