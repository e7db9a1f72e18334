"""Which tokens carry loss, token by token, under the templates that models really bring."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from launcher.data.formats import Conversation, Message, PlainText, RowError, to_conversation
from launcher.data.render.encode import Encoded, Encoder
from launcher.data.source import Format
from launcher.errors import UserError

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# No generation prompt, strict alternation, the system prompt inside the first user turn.
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + (system if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# The last assistant turn gets an empty thought, earlier ones lose theirs.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'].split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The generation prompt opens a thought that a finished turn does not keep.
DEEPSEEK_R1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ ('<|User|>' if m['role'] == 'user' else '<|Assistant|>') + m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
# The same, and the generation prompt holds the empty thought already.
QWEN3_5 = QWEN3.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n\n</think>\n\n' }}{% endif %}")
# The last turn ends with another token than earlier ones.
GPT_OSS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{{ '</s>' if loop.last and m['role'] == 'assistant' else '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_WITHOUT_PROMPT = CHATML.split("{% if")[0]
# A template for images and text sees no text unless it comes in parts.
TEXT_IN_PARTS = CHATML.replace("m['content']", "('' if m['content'] is string else m['content'][0]['text'])")
CHATML_CLOSED = CHATML.replace("{% endfor %}", "{% endfor %}{{ '' if add_generation_prompt else '</s>' }}")

SYSTEM = Message(role="system", content="You are terse.")
ASK, SAY = Message(role="user", content="What is the colour of the sky?"), Message(role="assistant", content="Blue.")
ASK_2, SAY_2 = Message(role="user", content="And of grass?"), Message(role="assistant", content="Green, mostly.")
TWO_TURNS = Conversation(messages=(ASK, SAY, ASK_2, SAY_2))


def learnt(encoded: Encoded, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The text of each unbroken run of trained tokens."""
    pairs = zip(encoded.ids.tolist(), encoded.trained.tolist(), strict=True)
    runs = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [str(tokenizer.decode([token for token, _ in run])) for trained, run in runs if trained]


def encode(tokenizer: PreTrainedTokenizerFast, *messages: Message) -> list[str]:
    return learnt(Encoder(tokenizer).encode(Conversation(messages=messages)), tokenizer)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["Blue.<|im_end|>", "Green, mostly.<|im_end|>"]),
        (LLAMA3, ["Blue.<|eot_id|>", "Green, mostly.<|eot_id|>"]),
        (MISTRAL, [" Blue.</s>", " Green, mostly.</s>"]),
        (QWEN3, ["Blue.<|im_end|>", "<think>\n\n</think>\n\nGreen, mostly.<|im_end|>"]),
        (QWEN3_5, ["Blue.<|im_end|>", "Green, mostly.<|im_end|>"]),
        (GPT_OSS, ["Blue.<|im_end|>", "Green, mostly.</s>"]),
        (DEEPSEEK_R1, ["Blue.</s>", "Green, mostly.</s>"]),
        (CHATML_WITHOUT_PROMPT, ["Blue.<|im_end|>", "Green, mostly.<|im_end|>"]),
        (CHATML_CLOSED, ["Blue.<|im_end|>", "Green, mostly.<|im_end|>\n</s>"]),
        ("{{ messages | length }}" + CHATML, ["Blue.<|im_end|>", "Green, mostly.<|im_end|>"]),
    ],
    ids=[
        "chatml",
        "llama3",
        "mistral",
        "qwen3",
        "qwen3.5",
        "gpt-oss",
        "deepseek-r1",
        "no-generation-prompt",
        "closing-token",
        "counting",
    ],
)
@pytest.mark.parametrize("system", [(), (SYSTEM,)], ids=["", "system"])
def test_exactly_what_the_assistant_says_is_learnt(
    make_tokenizer: MakeTokenizer, template: str, expected: list[str], system: tuple[Message, ...]
) -> None:
    assert encode(make_tokenizer(template), *system, *TWO_TURNS.messages) == expected


def test_the_mask_is_right_token_by_token(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(LLAMA3)
    encoded = Encoder(tokenizer).encode(Conversation(messages=(ASK_2, SAY)))
    pairs = [
        (tokenizer.decode([token]), trained)
        for token, trained in zip(encoded.ids.tolist(), encoded.trained.tolist(), strict=True)
    ]
    said = [pair for pair in pairs if pair[1]]
    first = pairs.index(said[0])
    assert pairs[:2] == [("<|begin_of_text|>", False), ("<|start_header_id|>", False)]
    assert "".join(text for text, _ in pairs[:first]).endswith("assistant<|end_header_id|>\n\n")
    assert "".join(text for text, _ in said[:-1]) == "Blue."
    assert pairs[-1] == ("<|eot_id|>", True)
    assert first + len(said) == len(pairs)


@pytest.mark.parametrize("template", [CHATML, LLAMA3, MISTRAL, QWEN3])
def test_the_tokens_are_those_of_the_whole_rendering(make_tokenizer: MakeTokenizer, template: str) -> None:
    tokenizer = make_tokenizer(template)
    turns = [{"role": turn.role, "content": turn.content} for turn in TWO_TURNS.messages]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert Encoder(tokenizer).encode(TWO_TURNS).ids.tolist() == expected


@pytest.mark.parametrize("content", ["", "  two  spaces\n\n\tand a tab ", "日本語 😀 é", "<think>hm</think>\n\nYes."])
@pytest.mark.parametrize("template", [CHATML, CHATML_WITHOUT_PROMPT])
def test_awkward_words_are_learnt_whole(make_tokenizer: MakeTokenizer, template: str, content: str) -> None:
    said = Message(role="assistant", content=content)
    assert encode(make_tokenizer(template), ASK, said, ASK_2, said) == [content + "<|im_end|>"] * 2


def test_a_conversation_may_begin_with_the_assistant_and_end_with_the_user(make_tokenizer: MakeTokenizer) -> None:
    assert encode(make_tokenizer(), SAY, ASK, SAY_2, ASK_2) == ["Blue.<|im_end|>", "Green, mostly.<|im_end|>"]


def test_without_an_end_of_turn_token_the_line_break_ends_the_turn(make_tokenizer: MakeTokenizer) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    assert encode(make_tokenizer(template), *TWO_TURNS.messages) == ["Blue.\n", "Green, mostly.\n"]


def test_assistant_turns_in_the_prompt_are_context(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer()
    conversation = Conversation(messages=TWO_TURNS.messages, first_trained=3)
    assert learnt(Encoder(tokenizer).encode(conversation), tokenizer) == ["Green, mostly.<|im_end|>"]


def test_a_date_in_the_template_does_not_change_from_day_to_day(make_tokenizer: MakeTokenizer) -> None:
    template = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}" + CHATML
    tokenizer = make_tokenizer(template)
    assert tokenizer.decode(Encoder(tokenizer).encode(TWO_TURNS).ids).startswith("26 Jul 2024")


def test_prompt_and_completion_are_joined_and_only_the_completion_is_learnt(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(bos=True)
    encoded = Encoder(tokenizer).encode(Conversation(plain=PlainText(prompt="And of grass?", completion=" Green")))
    assert tokenizer.decode(encoded.ids) == "<s>And of grass? Green</s>"
    assert learnt(encoded, tokenizer) == [" Green</s>"]


@pytest.mark.parametrize(("prompt", "completion"), [("And of gr", "ass?"), ("And of ", "grass?"), ("What", " is")])
def test_a_token_across_the_boundary_belongs_to_the_completion(
    make_tokenizer: MakeTokenizer, prompt: str, completion: str
) -> None:
    tokenizer = make_tokenizer()
    encoded = Encoder(tokenizer).encode(Conversation(plain=PlainText(prompt=prompt, completion=completion)))
    assert encoded.ids[:-1].tolist() == tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]
    (text,) = learnt(encoded, tokenizer)
    assert text.endswith(completion + "</s>")
    # The first trained token is the one that holds the completion's first character, no earlier one.
    first = tokenizer.decode([encoded.ids[encoded.trained.argmax()]])
    assert len(text) - len(first) < len(completion + "</s>") <= len(text)


def test_end_and_beginning_tokens_are_not_doubled(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(bos=True)
    plain = PlainText(prompt="<s>What", completion=" is</s>")
    encoded = Encoder(tokenizer).encode(Conversation(plain=plain))
    assert tokenizer.decode(encoded.ids) == "<s>What is</s>"
    assert encoded.trained[-1]


@pytest.mark.parametrize(
    ("template", "expected"), [(CHATML, "<|im_start|>user\nAdd.\n\n1 2<|im_end|>"), (None, "### Response:\n3</s>")]
)
def test_alpaca_uses_the_chat_template_where_there_is_one(
    make_tokenizer: MakeTokenizer, template: str | None, expected: str
) -> None:
    tokenizer = make_tokenizer(template)
    row: dict[str, Any] = {"instruction": "Add.", "input": "1 2", "output": "3"}
    encoded = Encoder(tokenizer).encode(to_conversation(row, Format.alpaca))
    assert expected in str(tokenizer.decode(encoded.ids))
    assert learnt(encoded, tokenizer) == ["3<|im_end|>" if template else "3</s>"]


def test_the_first_token_is_never_trained(make_tokenizer: MakeTokenizer) -> None:
    encoded = Encoder(make_tokenizer()).encode(Conversation(plain=PlainText(prompt="", completion="What is")))
    assert not encoded.trained[0]
    assert all(encoded.trained[1:])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
            r"leaves out the row's message 1 \(assistant\)",
        ),
        (TEXT_IN_PARTS, r"leaves out the row's message 0 \(user\)"),
        ("{{ raise_exception('only on Sundays') }}", "only on Sundays"),
        ("{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}", "rewrites message 1"),
        ("{{ messages[7]['content'] }}", "the chat template of '.*' refuses this conversation"),
    ],
)
def test_a_template_under_which_the_mask_would_be_a_guess_is_an_error(
    make_tokenizer: MakeTokenizer, template: str, reason: str
) -> None:
    with pytest.raises(RowError, match=reason):
        Encoder(make_tokenizer(template)).encode(TWO_TURNS)


def test_a_row_without_a_trained_token_is_an_error_that_names_the_template(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    conversation = Conversation(messages=(ASK, Message(role="assistant", content="")))
    with pytest.raises(RowError, match=r"no token of this row would be trained: my\.jinja"):
        Encoder(tokenizer, "my.jinja").encode(conversation)


def test_messages_without_a_template_name_the_key_to_set(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(UserError, match=r"data\.chat_template: .* has no chat template") as caught:
        Encoder(make_tokenizer(None)).encode(TWO_TURNS)
    assert "data.chat_template=" in caught.value.problems[0].remedy


def test_a_template_that_does_not_parse_is_the_configs_fault_not_the_rows(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(UserError, match="not Jinja: line 1"):
        Encoder(make_tokenizer("{% for m in %}")).encode(TWO_TURNS)


def test_plain_text_needs_an_end_of_sequence_token(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(UserError, match="no end-of-sequence token"):
        Encoder(make_tokenizer(eos=None)).encode(Conversation(plain=PlainText(prompt="a", completion="b")))
