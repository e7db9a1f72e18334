"""Which messages carry loss, and that a batch keeps going where a row cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from launcher.data.formats import Conversation, Message, PlainText
from launcher.data.reject import RowError, Step
from launcher.data.render import layout
from launcher.data.render.encode import Encoded, Encoder
from launcher.data.render.spans import SpanFinder
from launcher.data.render.template import ChatTemplate
from launcher.data.source import TrainOn
from launcher.errors import UserError

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

TEMPLATES = Path(__file__).parent / "templates"
ENDS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|end_header_id|>", "<end_of_turn>", "<|end|>", "</s>", "[/INST]")

SYSTEM = Message(role="system", content="You are terse.")
ASK, SAY = Message(role="user", content="Sky?"), Message(role="assistant", content="Blue.")
ASK_2, SAY_2 = Message(role="user", content="And grass?"), Message(role="assistant", content="Green.")
CHAT = (ASK, SAY, ASK_2, SAY_2)
CALL = Message(role="assistant", content="", tool_calls=({"name": "look", "arguments": {"at": "sky"}},))
RESULT = Message(role="tool", content="blue")

PRINTS_CALLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function.name + (m.tool_calls[0].function.arguments | tojson) }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)
# DeepSeek-V3's prints calls only where there is no content at all.
CALLS_BESIDE_NULL = PRINTS_CALLS.replace("{% if m.tool_calls %}", "{% if m.content is none %}")
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% for word in m['content'].split('|') %}{% generation %}{{ word }}{% endgeneration %}{% endfor %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def learnt(tokenizer: PreTrainedTokenizerFast, row: Conversation, policy: TrainOn = TrainOn.assistant) -> str:
    """The trained tokens' text."""
    encoded = Encoder(tokenizer, train_on=policy).encode(row)
    return str(tokenizer.decode(encoded.ids[encoded.trained].tolist()))


def flagged(*places: int, messages: tuple[Message, ...] = (SYSTEM, *CHAT)) -> Conversation:
    return Conversation(
        messages=tuple(replace(message, train=place in places) for place, message in enumerate(messages))
    )


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((2,), "Blue.<|im_end|>"),
        ((4,), "Green.<|im_end|>"),
        ((2, 4), "Blue.<|im_end|>Green.<|im_end|>"),
        ((1, 4), "Sky?<|im_end|>Green.<|im_end|>"),
        ((0,), "You are terse.<|im_end|>"),
    ],
)
def test_flagged_messages_are_learnt_whoever_says_them(
    make_tokenizer: MakeTokenizer, places: tuple[int, ...], expected: str
) -> None:
    assert learnt(make_tokenizer(), flagged(*places), TrainOn.flags) == expected


def test_a_row_without_a_flag_is_untrained_and_says_what_to_set(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(RowError, match=r'no message has "train": true \(data\.train_on=flags\)') as caught:
        learnt(make_tokenizer(), flagged(), TrainOn.flags)
    assert caught.value.step is Step.untrained
    assert "data.train_on=assistant" in caught.value.remedy


@pytest.mark.parametrize("policy", [TrainOn.assistant, TrainOn.last])
def test_turns_of_the_prompt_are_context_under_every_policy(make_tokenizer: MakeTokenizer, policy: TrainOn) -> None:
    assert learnt(make_tokenizer(), Conversation(messages=CHAT, first_trained=2), policy) == "Green.<|im_end|>"


def test_flags_in_the_prompt_are_context(make_tokenizer: MakeTokenizer) -> None:
    row = replace(flagged(1, 3, messages=CHAT), first_trained=2)
    assert learnt(make_tokenizer(), row, TrainOn.flags) == "Green.<|im_end|>"


@pytest.mark.parametrize("policy", list(TrainOn))
def test_text_is_learnt_whole_and_a_prompt_never(make_tokenizer: MakeTokenizer, policy: TrainOn) -> None:
    tokenizer = make_tokenizer(bos=True)
    text, pair = PlainText(prompt="", completion="Sky?"), PlainText(prompt="Sky?", completion=" Blue.")
    assert learnt(tokenizer, Conversation(plain=text), policy) == "Sky?</s>"
    assert learnt(tokenizer, Conversation(plain=pair), policy) == " Blue.</s>"


@pytest.mark.parametrize(
    ("policy", "places", "expected"),
    [
        (TrainOn.assistant, (), "BlueyGreenish"),
        (TrainOn.last, (), "Greenish"),
        (TrainOn.flags, (1,), "Bluey"),
        (TrainOn.flags, (0, 3), "Sky?<|im_end|>Green|ish<|im_end|>"),
    ],
)
def test_marks_decide_also_where_a_turn_has_several(
    make_tokenizer: MakeTokenizer, policy: TrainOn, places: tuple[int, ...], expected: str
) -> None:
    said = (ASK, replace(SAY, content="Blue|y"), ASK_2, replace(SAY_2, content="Green|ish"))
    template = MARKED if 0 not in places else MARKED.replace("split('|')", "split('§')")
    assert learnt(make_tokenizer(template), flagged(*places, messages=said), policy) == expected


@pytest.mark.parametrize("template", [PRINTS_CALLS, CALLS_BESIDE_NULL], ids=["empty", "null"])
def test_calls_are_shown_beside_whichever_content_the_template_wants(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    row = Conversation(messages=(ASK, CALL, RESULT, SAY))
    assert learnt(make_tokenizer(template), row) == 'look{"at": "sky"}<|im_end|>Blue.<|im_end|>'


def test_words_that_a_template_drops_beside_calls_are_not_lost_in_silence(make_tokenizer: MakeTokenizer) -> None:
    row = Conversation(messages=(ASK, replace(CALL, content="Let me see."), RESULT, SAY))
    with pytest.raises(RowError, match=r"leaves out the row's message 1 \(assistant\)"):
        learnt(make_tokenizer(PRINTS_CALLS), row)


def test_a_result_belongs_to_the_earliest_call_without_one() -> None:
    template = ChatTemplate("{{ messages | tojson }}", {}, "mine")
    two = replace(CALL, tool_calls=(*CALL.tool_calls, {"name": "smell", "arguments": {}}))
    shown = template.render(Conversation(messages=(ASK, two, RESULT, RESULT, CALL, RESULT)))
    for name, number in (("look", "call00000"), ("smell", "call00001"), ("look", "call00002")):
        assert f'"content": "blue", "tool_call_id": "{number}", "name": "{name}"' in shown
        assert f'{{"id": "{number}", "type": "function", "function": {{"name": "{name}", "arguments": ' in shown


def test_rows_with_tools_get_the_template_that_a_tokenizer_has_for_them(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer()
    with_tools = "{{ tools | tojson }}" + str(tokenizer.chat_template)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": with_tools}
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    encoder = Encoder(tokenizer)
    texts = [
        str(tokenizer.decode(encoder.encode(Conversation(messages=CHAT, tools=tools)).ids.tolist()))
        for tools in ((), (tool,))
    ]
    assert texts[0].startswith("<|im_start|>user")
    assert texts[1].startswith('[{"type": "function"')


def test_todays_date_is_the_same_every_day(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("{{ strftime_now('%Y-%m-%d') }}" + str(make_tokenizer().chat_template))
    assert tokenizer.decode(Encoder(tokenizer).encode(Conversation(messages=CHAT)).ids).startswith("2024-07-26")


def test_a_batch_keeps_its_order_around_rows_that_cannot_be_used(make_tokenizer: MakeTokenizer) -> None:
    plain = Conversation(plain=PlainText(prompt="", completion="Sky?"))
    nothing = Conversation(messages=(ASK,))
    rows = [plain, nothing, Conversation(messages=CHAT), Conversation(plain=PlainText(prompt="a", completion="b"))]
    encoder = Encoder(make_tokenizer())
    found = encoder.encode_all(rows)
    assert [type(each) for each in found] == [Encoded, RowError, Encoded, Encoded]
    for row, each in zip(rows, found, strict=True):
        if isinstance(each, Encoded):
            assert each.ids.tolist() == encoder.encode(row).ids.tolist()
        else:
            assert each.step is Step.untrained
            assert "data.chat_template=" in each.remedy


def test_what_makes_every_row_unusable_is_raised_from_a_batch(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(UserError, match="not Jinja"):
        Encoder(make_tokenizer("{% for m in %}")).encode_all([Conversation(messages=CHAT)])


WORDS = st.one_of(
    st.sampled_from(["Blue.", "", " ", " Blue.", "Blue.\n", "<think>a</think>b", "</think>", "<|im_end|>", "\n\nx"]),
    st.text(max_size=8),
)


@pytest.mark.parametrize("family", ["llama3_1", "qwen2_5", "qwen3", "mistral_v0_3", "gemma2", "chatml", "phi3", "phi4"])
@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORDS, min_size=2, max_size=6), system=st.booleans())
def test_what_is_known_of_a_sequence_of_roles_never_changes_the_result(
    family: str, words: list[str], system: bool
) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    template = ChatTemplate((TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8"), names, "mine")
    roles = [*(["system"] if system else []), *["user", "assistant"] * 3]
    row = Conversation(
        messages=tuple(Message(role=role, content=word) for role, word in zip(roles, words, strict=False))
    )
    turns = tuple(place for place, message in enumerate(row.messages) if message.role == "assistant")
    found: list[Any] = []
    for searches_always in (False, True):
        finder = SpanFinder(template, ENDS)
        if searches_always:
            finder._layout = lambda *_: None  # type: ignore[assignment]
        try:
            found.append(finder.find(row, turns))
        except RowError as error:
            found.append(str(error))
    known, searched = found
    # A conversation that equals the known frame is found even where a search would give up.
    if not isinstance(searched, str) or isinstance(known, str):
        assert known == searched


def test_a_second_conversation_of_the_same_roles_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate((TEMPLATES / "llama3_1.jinja").read_text(encoding="utf-8"), {"bos_token": "<s>"}, "mine")
    finder = SpanFinder(template, ENDS)
    renderings = []
    original = ChatTemplate.render

    def counted(self: ChatTemplate, row: Conversation, *, add_generation_prompt: bool = False) -> str:
        renderings.append(row)
        return original(self, row, add_generation_prompt=add_generation_prompt)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    finder.find(Conversation(messages=CHAT), (1, 3))
    renderings.clear()
    text, spans = finder.find(Conversation(messages=(ASK_2, SAY_2, ASK, replace(SAY, content=" Blue.\n"))), (1, 3))
    assert [text[start:end] for start, end in spans] == ["Green.<|eot_id|>", "Blue.<|eot_id|>"]
    assert len(renderings) == 1


def test_a_frame_that_words_change_is_not_taken_for_known() -> None:
    known = layout.Layout(pieces=("<", "|", ">"), margins=((1, 0, 1),))
    assert known.spans(["a", "b"], "<a|b>") == [(3, 5)]
    assert known.spans(["a", " b "], "<a|b>") == [(3, 5)]
    assert known.spans(["a", "b"], "<a|B>") is None
