"""The loss mask of the template families, token by token, against expectations labelled by hand.

A label is the whole rendering with ⟦ ⟧ around what carries loss. The templates in templates/ render as those that the
models bring; shipped ones are in recipes/chat_templates/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from launcher.config.search import shipped
from launcher.config.store import register
from launcher.data.formats import Conversation, Message
from launcher.data.reject import RowError
from launcher.data.render.encode import Encoder
from launcher.data.source import TrainOn

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

TEMPLATES = Path(__file__).parent / "templates"
SHIPPED = shipped("recipes") / "chat_templates"

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
LLAMA_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MISTRAL_TOKENS = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")
FAMILIES: dict[str, tuple[Path, str, str, tuple[str, ...]]] = {
    "llama3_1": (TEMPLATES / "llama3_1.jinja", "<|begin_of_text|>", "<|eot_id|>", LLAMA_TOKENS),
    "qwen2_5": (TEMPLATES / "qwen2_5.jinja", "<|endoftext|>", "<|im_end|>", CHATML_TOKENS),
    "qwen3": (TEMPLATES / "qwen3.jinja", "<|endoftext|>", "<|im_end|>", CHATML_TOKENS),
    "mistral_v0_3": (
        TEMPLATES / "mistral_v0_3.jinja",
        "<s>",
        "</s>",
        (*MISTRAL_TOKENS, "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    ),
    "gemma2": (TEMPLATES / "gemma2.jinja", "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>")),
    "chatml": (TEMPLATES / "chatml.jinja", "<s>", "</s>", CHATML_TOKENS),
    "phi3": (TEMPLATES / "phi3.jinja", "<s>", "<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
    "phi4": (TEMPLATES / "phi4.jinja", "<|endoftext|>", "<|im_end|>", (*CHATML_TOKENS, "<|im_sep|>")),
    "shipped_chatml": (SHIPPED / "chatml.jinja", "<s>", "</s>", CHATML_TOKENS),
    "shipped_llama3": (SHIPPED / "llama3.jinja", "<|begin_of_text|>", "<|eot_id|>", LLAMA_TOKENS),
    "shipped_plain": (SHIPPED / "plain.jinja", "<s>", "</s>", ()),
}
"""Template, beginning and end of a sequence, other special tokens."""


def said(role: str, content: str, **more: Any) -> Message:
    return Message(role=role, content=content, **more)


SYSTEM, ASK, SAY = said("system", "You are terse."), said("user", "Sky?"), said("assistant", "Blue.")
ASK_2, SAY_2 = said("user", "And grass?"), said("assistant", "Green.")
CHAT = (ASK, SAY, ASK_2, SAY_2)
THOUGHT = said("assistant", "<think>\nHm.\n</think>\n\nGreen.")
CALL = said("assistant", "", tool_calls=({"name": "look", "arguments": {"at": "sky"}},))
TWO_CALLS = said("assistant", "", tool_calls=(*CALL.tool_calls, {"name": "smell", "arguments": {}}))
RESULT, RESULT_2 = said("tool", "blue"), said("tool", "fresh")
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
TOOL_LINE = (
    '{"type": "function", "function": {"name": "look", "description": "Look.", '
    '"parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}'
)
TOOL_INDENTED = """{
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {
            "type": "object",
            "properties": {
                "at": {
                    "type": "string"
                }
            }
        }
    }
}"""
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    f"signatures within <tools></tools> XML tags:\n<tools>\n{TOOL_LINE}\n</tools>\n\nFor each function call, return "
    "a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)
QWEN_SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
LLAMA_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n{}Cutting Knowledge Date: December 2023\n"
LLAMA_SYSTEM += "Today Date: 26 Jul 2024\n\n"
LLAMA_TOOLS = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that "
    'best answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of '
    f"argument name and its value}}.Do not use variables.\n\n{TOOL_INDENTED}\n\n"
)


def llama(role: str, content: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}"


def chatml(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}\n"


CHATML_CHAT = (
    chatml("user", "Sky?<|im_end|>")
    + chatml("assistant", "⟦Blue.<|im_end|>⟧")
    + chatml("user", "And grass?<|im_end|>")
    + chatml("assistant", "⟦Green.<|im_end|>⟧")
)
LLAMA_CHAT = (
    llama("user", "Sky?<|eot_id|>")
    + llama("assistant", "⟦Blue.<|eot_id|>⟧")
    + llama("user", "And grass?<|eot_id|>")
    + llama("assistant", "⟦Green.<|eot_id|>⟧")
)
CHATML_SYSTEM = chatml("system", "You are terse.<|im_end|>")
QWEN_RESULT = "<|im_start|>user\n<tool_response>\nblue\n</tool_response><|im_end|>\n"
QWEN_CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
NO_THOUGHT = "<think>\n\n</think>\n\n"

LABELLED: list[tuple[str, Conversation, str]] = [
    (
        "llama3_1",
        Conversation(messages=CHAT),
        "<|begin_of_text|>" + LLAMA_SYSTEM.format("") + "<|eot_id|>" + LLAMA_CHAT,
    ),
    (
        "llama3_1",
        Conversation(messages=(SYSTEM, *CHAT)),
        "<|begin_of_text|>" + LLAMA_SYSTEM.format("") + "You are terse.<|eot_id|>" + LLAMA_CHAT,
    ),
    (
        "llama3_1",
        Conversation(messages=(SYSTEM, ASK, CALL, RESULT, SAY), tools=(TOOL,)),
        "<|begin_of_text|>"
        + LLAMA_SYSTEM.format("Environment: ipython\n")
        + "You are terse.<|eot_id|>"
        + llama("user", LLAMA_TOOLS + "Sky?<|eot_id|>")
        + llama("assistant", '⟦{"name": "look", "parameters": {"at": "sky"}}<|eot_id|>⟧')
        + llama("ipython", '"blue"<|eot_id|>')
        + llama("assistant", "⟦Blue.<|eot_id|>⟧"),
    ),
    ("qwen2_5", Conversation(messages=CHAT), QWEN_SYSTEM + "<|im_end|>\n" + CHATML_CHAT),
    ("qwen2_5", Conversation(messages=(SYSTEM, *CHAT)), CHATML_SYSTEM + CHATML_CHAT),
    (
        "qwen2_5",
        Conversation(messages=(ASK, CALL, RESULT, SAY, ASK_2, SAY_2), tools=(TOOL,)),
        QWEN_SYSTEM
        + "\n\n"
        + QWEN_TOOLS
        + chatml("user", "Sky?<|im_end|>")
        + chatml("assistant", f"⟦{QWEN_CALL}<|im_end|>⟧")
        + QWEN_RESULT
        + CHATML_CHAT.partition("Sky?<|im_end|>\n")[2],
    ),
    (
        "qwen3",
        Conversation(messages=(SYSTEM, *CHAT)),
        CHATML_SYSTEM + CHATML_CHAT.replace("⟦Green", f"⟦{NO_THOUGHT}Green"),
    ),
    (
        "qwen3",
        Conversation(messages=(ASK, said("assistant", "<think>\nHm.\n</think>\n\nBlue."), ASK_2, THOUGHT)),
        CHATML_CHAT.replace("⟦Green", "⟦<think>\nHm.\n</think>\n\nGreen"),
    ),
    (
        "qwen3",
        Conversation(messages=(ASK, CALL, RESULT, SAY), tools=(TOOL,)),
        "<|im_start|>system\n"
        + QWEN_TOOLS
        + chatml("user", "Sky?<|im_end|>")
        + chatml("assistant", f"⟦{QWEN_CALL}<|im_end|>⟧")
        + QWEN_RESULT
        + chatml("assistant", f"⟦{NO_THOUGHT}Blue.<|im_end|>⟧"),
    ),
    (
        "mistral_v0_3",
        Conversation(messages=CHAT),
        "<s>[INST] Sky?[/INST]⟦ Blue.</s>⟧[INST] And grass?[/INST]⟦ Green.</s>⟧",
    ),
    (
        "mistral_v0_3",
        Conversation(messages=(ASK, TWO_CALLS, RESULT, RESULT_2, SAY), tools=(TOOL,)),
        f"<s>[AVAILABLE_TOOLS] [{TOOL_LINE}][/AVAILABLE_TOOLS][INST] Sky?[/INST]"
        '⟦[TOOL_CALLS] [{"name": "look", "arguments": {"at": "sky"}, "id": "call00000"}, '
        '{"name": "smell", "arguments": {}, "id": "call00001"}]</s>⟧'
        '[TOOL_RESULTS] {"content": blue, "call_id": "call00000"}[/TOOL_RESULTS]'
        '[TOOL_RESULTS] {"content": fresh, "call_id": "call00001"}[/TOOL_RESULTS]⟦ Blue.</s>⟧',
    ),
    (
        "mistral_v0_3",
        Conversation(messages=(ASK, CALL, RESULT, SAY, ASK_2, SAY_2), tools=(TOOL,)),
        '<s>[INST] Sky?[/INST]⟦[TOOL_CALLS] [{"name": "look", "arguments": {"at": "sky"}, "id": "call00000"}]</s>⟧'
        '[TOOL_RESULTS] {"content": blue, "call_id": "call00000"}[/TOOL_RESULTS]⟦ Blue.</s>⟧'
        f"[AVAILABLE_TOOLS] [{TOOL_LINE}][/AVAILABLE_TOOLS][INST] And grass?[/INST]⟦ Green.</s>⟧",
    ),
    (
        "gemma2",
        Conversation(messages=CHAT),
        "<bos><start_of_turn>user\nSky?<end_of_turn>\n<start_of_turn>model\n⟦Blue.<end_of_turn>⟧\n"
        "<start_of_turn>user\nAnd grass?<end_of_turn>\n<start_of_turn>model\n⟦Green.<end_of_turn>⟧\n",
    ),
    ("chatml", Conversation(messages=(SYSTEM, *CHAT)), CHATML_SYSTEM + CHATML_CHAT),
    ("chatml", Conversation(messages=(*CHAT, ASK)), CHATML_CHAT + chatml("user", "Sky?<|im_end|>")),
    (
        "phi3",
        Conversation(messages=(SYSTEM, *CHAT)),
        "<|system|>\nYou are terse.<|end|>\n<|user|>\nSky?<|end|>\n<|assistant|>\n⟦Blue.<|end|>⟧\n"
        "<|user|>\nAnd grass?<|end|>\n<|assistant|>\n⟦Green.<|end|>\n<|endoftext|>⟧",
    ),
    (
        "phi4",
        Conversation(messages=(SYSTEM, *CHAT)),
        "<|im_start|>system<|im_sep|>You are terse.<|im_end|><|im_start|>user<|im_sep|>Sky?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>⟦Blue.<|im_end|>⟧<|im_start|>user<|im_sep|>And grass?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>⟦Green.<|im_end|>⟧",
    ),
    ("shipped_chatml", Conversation(messages=(SYSTEM, *CHAT)), CHATML_SYSTEM + CHATML_CHAT),
    (
        "shipped_llama3",
        Conversation(messages=(SYSTEM, *CHAT)),
        "<|begin_of_text|>" + llama("system", "You are terse.<|eot_id|>") + LLAMA_CHAT,
    ),
    (
        "shipped_plain",
        Conversation(messages=(SYSTEM, *CHAT)),
        "<s>### System:\nYou are terse.\n\n### User:\nSky?\n\n### Assistant:\n⟦Blue.</s>⟧\n\n"
        "### User:\nAnd grass?\n\n### Assistant:\n⟦Green.</s>⟧",
    ),
]


@pytest.fixture
def family_tokenizer(make_tokenizer: MakeTokenizer) -> Callable[[str], PreTrainedTokenizerFast]:
    """A small tokenizer with a family's template and special tokens."""

    def make(family: str) -> PreTrainedTokenizerFast:
        template, bos, eos, others = FAMILIES[family]
        tokenizer = make_tokenizer(template.read_text(encoding="utf-8"))
        special: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "additional_special_tokens": list(others)}
        tokenizer.add_special_tokens(special)
        return tokenizer

    return make


def mask(tokenizer: PreTrainedTokenizerFast, row: Conversation, policy: TrainOn) -> list[tuple[str, bool]]:
    """Every token's text and whether it is trained."""
    encoded = Encoder(tokenizer, train_on=policy).encode(row)
    texts = [str(tokenizer.decode([token])) for token in encoded.ids.tolist()]
    return list(zip(texts, encoded.trained.tolist(), strict=True))


def labels(tokenizer: PreTrainedTokenizerFast, labelled: str) -> list[tuple[str, bool]]:
    """The same, of a hand-labelled text: each part is tokenised alone."""
    found = []
    for number, part in enumerate(re.split("[⟦⟧]", labelled)):
        tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
        found += [(str(tokenizer.decode([token])), number % 2 == 1) for token in tokens]
    # Labels are put where the text's tokens are apart anyway.
    whole = tokenizer(re.sub("[⟦⟧]", "", labelled), add_special_tokens=False)["input_ids"]
    assert [text for text, _ in found] == [str(tokenizer.decode([token])) for token in whole]
    return found


def unlabelled_but_last(labelled: str) -> str:
    """The labelled text when only the last turn is learnt."""
    earlier, start, last = labelled.rpartition("⟦")
    return re.sub("[⟦⟧]", "", earlier) + start + last


def ids(case: tuple[str, Conversation, str]) -> str:
    return f"{case[0]}-{''.join(message.role[0] for message in case[1].messages)}"


@pytest.mark.parametrize("policy", [TrainOn.assistant, TrainOn.last])
@pytest.mark.parametrize(("family", "row", "labelled"), LABELLED, ids=map(ids, LABELLED))
def test_the_mask_equals_the_one_labelled_by_hand(
    family_tokenizer: Callable[[str], PreTrainedTokenizerFast],
    family: str,
    row: Conversation,
    labelled: str,
    policy: TrainOn,
) -> None:
    tokenizer = family_tokenizer(family)
    expected = labelled if policy is TrainOn.assistant else unlabelled_but_last(labelled)
    assert mask(tokenizer, row, policy) == labels(tokenizer, expected)


@pytest.mark.parametrize(("family", "row", "labelled"), LABELLED, ids=map(ids, LABELLED))
def test_all_tokens_but_the_first_are_trained_where_that_is_asked_for(
    family_tokenizer: Callable[[str], PreTrainedTokenizerFast], family: str, row: Conversation, labelled: str
) -> None:
    tokenizer = family_tokenizer(family)
    texts = [text for text, _ in labels(tokenizer, labelled)]
    assert mask(tokenizer, row, TrainOn.all) == [(text, place > 0) for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("family", "row", "reason"),
    [
        ("gemma2", Conversation(messages=(SYSTEM, *CHAT)), "System role not supported"),
        # It prints a system prompt only where a question comes last, which is never learnt from.
        ("mistral_v0_3", Conversation(messages=(SYSTEM, *CHAT)), r"leaves out the row's message 0 \(system\)"),
        ("mistral_v0_3", Conversation(messages=(ASK, ASK_2, SAY)), "must alternate"),
        ("llama3_1", Conversation(messages=(ASK, TWO_CALLS, RESULT, SAY)), "one call at a time"),
        ("phi4", Conversation(messages=(ASK, CALL, RESULT, SAY)), 'leaves out the row\'s "tool_calls"'),
        (
            "chatml",
            Conversation(messages=(ASK, said("assistant", "I look.", tool_calls=CALL.tool_calls), RESULT, SAY)),
            'leaves out the row\'s "tool_calls"',
        ),
        ("phi3", Conversation(messages=(ASK, SAY), tools=(TOOL,)), 'leaves out the row\'s "tools"'),
        ("shipped_chatml", Conversation(messages=CHAT, documents=({"title": "t", "text": "x"},)), '"documents"'),
        ("shipped_llama3", Conversation(messages=(ASK, CALL, RESULT, SAY)), '"tool_calls"'),
    ],
)
@pytest.mark.parametrize("policy", [TrainOn.assistant, TrainOn.all])
def test_what_a_family_cannot_show_is_said(
    family_tokenizer: Callable[[str], PreTrainedTokenizerFast],
    family: str,
    row: Conversation,
    reason: str,
    policy: TrainOn,
) -> None:
    with pytest.raises(RowError, match=reason):
        mask(family_tokenizer(family), row, policy)


@pytest.mark.parametrize("family", ["shipped_chatml", "shipped_llama3"])
@pytest.mark.parametrize("messages", [CHAT, (SYSTEM, *CHAT), (SAY, ASK, SAY_2, ASK_2)], ids=["chat", "system", "odd"])
@pytest.mark.parametrize("policy", [TrainOn.assistant, TrainOn.last])
def test_marks_and_probing_agree(
    family_tokenizer: Callable[[str], PreTrainedTokenizerFast],
    family: str,
    messages: tuple[Message, ...],
    policy: TrainOn,
) -> None:
    marked, bare = family_tokenizer(family), family_tokenizer(family)
    bare.chat_template, count = re.subn(r"\{%-? (end)?generation -?%\}", "", str(marked.chat_template))
    assert count == 2
    row = Conversation(messages=messages)
    assert mask(marked, row, policy) == mask(bare, row, policy)


@pytest.mark.parametrize("name", ["chatml.jinja", "llama3.jinja", "plain.jinja"])
def test_shipped_templates_are_named_in_a_config_wherever_they_are(name: str) -> None:
    register()
    config = OmegaConf.create({"chat_template": f"${{shipped:chat_templates/{name}}}"})
    assert Path(config.chat_template).read_text(encoding="utf-8") == (SHIPPED / name).read_text(encoding="utf-8")
    assert {path.name for path in SHIPPED.iterdir()} == {"chatml.jinja", "llama3.jinja", "plain.jinja"}
