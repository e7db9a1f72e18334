"""A real, small instruction data set without a download: the documentation that ships with Python.

    python recipes/demo_data.py OUT_DIR

makes OUT_DIR/train.jsonl and OUT_DIR/held_out.jsonl (rows of messages; no object is in both), OUT_DIR/model/ (a
tokenizer trained on the rows, and the config of a small Llama to be trained from random weights) and OUT_DIR/README.
OUT_DIR is complete or absent, and the same for the same Python. Stands alone: imports nothing of the launcher.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Fixed, so that the set does not depend on what is installed; none of these acts when it is imported.
_MODULE_NAMES = """
    abc argparse array ast asyncio base64 bdb binascii bisect bz2 calendar cmath cmd code codecs codeop collections
    collections.abc colorsys compileall concurrent.futures configparser contextlib contextvars copy copyreg csv ctypes
    dataclasses datetime decimal difflib dis doctest email email.charset email.header email.headerregistry
    email.message email.mime.text email.parser email.policy email.utils enum errno faulthandler filecmp fileinput
    fnmatch fractions ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac html
    html.entities html.parser http http.client http.cookiejar http.cookies http.server imaplib importlib
    importlib.abc importlib.machinery importlib.metadata importlib.resources importlib.util inspect io ipaddress
    itertools json json.decoder json.encoder keyword linecache locale logging logging.config logging.handlers lzma
    mailbox marshal math mimetypes mmap modulefinder multiprocessing multiprocessing.connection
    multiprocessing.managers multiprocessing.pool multiprocessing.shared_memory netrc numbers operator optparse os
    pathlib pdb pickle pickletools pkgutil platform plistlib poplib posixpath pprint profile pstats py_compile pyclbr
    pydoc queue quopri random re reprlib runpy sched secrets select selectors shelve shlex shutil signal
    site smtplib socket socketserver sqlite3 ssl stat statistics string stringprep struct subprocess symtable sys
    sysconfig tabnanny tarfile tempfile textwrap threading time timeit token tokenize trace traceback tracemalloc
    types typing unicodedata unittest unittest.case unittest.mock unittest.suite urllib.error urllib.parse
    urllib.request urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.handlers wsgiref.headers
    wsgiref.simple_server wsgiref.util xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree xml.sax.handler
    xml.sax.saxutils xml.sax.xmlreader xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
"""
MODULES = tuple(_MODULE_NAMES.split())

_PURPOSE = (
    "What does `{name}` do?",
    "What is `{name}` for?",
    "Explain `{name}` in a sentence or two.",
    "I found `{name}` in some Python code. What is it?",
    "Describe `{name}`.",
)
_CALL = (
    "How is `{name}` called?",
    "What arguments does `{name}` take?",
    "Show me the signature of `{name}`.",
)
_SHORTEST_ANSWER, _LONGEST_ANSWER = 20, 400
_HELD_OUT_ONE_IN = 10
_VOCAB_SIZE = 4096
_MAX_POSITIONS = 512
_BOS, _EOS, _PAD, _START = "<|begin|>", "<|im_end|>", "<|pad|>", "<|im_start|>"
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_FILES = ("train.jsonl", "held_out.jsonl", "model/config.json", "model/tokenizer.json", "README")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A question and its answer."""

    name: str
    """The documented object, module and all."""
    question: str
    """What is asked."""
    answer: str
    """What its documentation says."""

    def line(self) -> str:
        """The row as one JSON line."""
        turns = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return json.dumps({"messages": turns}, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set named on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make an instruction data set from Python's own documentation.")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="where to; made new, complete or not at all")
    out_dir: Path = parser.parse_args(argv).out_dir
    if all((out_dir / name).is_file() for name in _FILES):
        print(f"{out_dir} is there already and complete")
        return 0
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        print(f"{out_dir} exists and is something else: name another folder, or remove it", file=sys.stderr)
        return 2
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        summary = make(temporary)
        os.rename(temporary, out_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{out_dir}: {summary}")
    return 0


def make(folder: Path) -> str:
    """Write every file into `folder`; what was made, in a few lines."""
    rows = collect()
    train = [row for row in rows if not is_held_out(row.name)]
    held_out = [row for row in rows if is_held_out(row.name)]
    for name, part in (("train.jsonl", train), ("held_out.jsonl", held_out)):
        (folder / name).write_text("".join(row.line() for row in part), encoding="utf-8")
    tokenizer = train_tokenizer(train)
    tokenizer.save_pretrained(folder / "model")
    config = json.dumps(model_config(tokenizer), indent=2) + "\n"
    (folder / "model" / "config.json").write_text(config, encoding="utf-8")
    tokens = sum(map(len, tokenizer([row.question + row.answer for row in rows])["input_ids"]))
    example = train[len(train) // 2]
    summary = (
        f"{len(train)} training rows, {len(held_out)} held out, about {tokens} tokens, vocabulary {len(tokenizer)}\n"
        f"an example:\n  {example.question}\n  {example.answer}"
    )
    (folder / "README").write_text(_readme(summary), encoding="utf-8")
    return summary


def collect() -> list[Row]:
    """All rows, sorted by name; each answer occurs once."""
    found = {name: thing for module in MODULES for name, thing in _documented(module)}
    rows: dict[str, Row] = {}
    for name in sorted(found):
        for row in _rows(name, found[name]):
            rows.setdefault(row.answer, row)
    return list(rows.values())


def is_held_out(name: str) -> bool:
    """Whether an object's rows, all of them, are kept from training."""
    return _number(name) % _HELD_OUT_ONE_IN == 0


def _documented(module_name: str) -> Iterator[tuple[str, Any]]:
    """Public functions, classes and methods that a module defines, with their full names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # a Python built without, say, lzma or sqlite3
            return
        for name in sorted(getattr(module, "__all__", dir(module))):
            thing = getattr(module, name, None)
            home = getattr(thing, "__module__", None)
            # What another module of the list defines is asked about there.
            if name.startswith("_") or (home != module_name and home in MODULES):
                continue
            if inspect.isclass(thing):
                yield f"{module_name}.{name}", thing
                yield from (
                    (f"{module_name}.{name}.{key}", member)
                    for key, member in sorted(vars(thing).items())
                    if not key.startswith("_") and inspect.isroutine(member)
                )
            elif inspect.isroutine(thing):
                yield f"{module_name}.{name}", thing


def _rows(name: str, thing: Any) -> Iterator[Row]:
    answer = _first_words(thing.__doc__)
    if answer:
        yield Row(name=name, question=_pick(_PURPOSE, name), answer=answer)
    signature = _signature(thing)
    if answer and signature:
        called = f"`{name}{signature}`"
        if len(called) <= _LONGEST_ANSWER:
            yield Row(name=name, question=_pick(_CALL, name), answer=called)


def _first_words(doc: Any) -> str:
    """A docstring's first paragraph as one line, cut after the last sentence that fits; empty when none does."""
    if not isinstance(doc, str):
        return ""
    paragraph = " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())
    if len(paragraph) > _LONGEST_ANSWER:
        ends = [match.end() for match in re.finditer(r"[.!?](?= )", paragraph[:_LONGEST_ANSWER])]
        paragraph = paragraph[: ends[-1]] if ends else ""
    return paragraph if len(paragraph) >= _SHORTEST_ANSWER else ""


def _signature(thing: Any) -> str:
    """How it is called; empty when unknown, or when defaults show addresses or this machine's paths."""
    try:
        signature = str(inspect.signature(thing))
    except (ValueError, TypeError):
        return ""
    return "" if signature == "()" or " at 0x" in signature or "/" in signature.replace(", /", "") else signature


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _pick(phrasings: Sequence[str], name: str) -> str:
    return phrasings[_number(f"phrasing {name}") % len(phrasings)].format(name=name)


def train_tokenizer(rows: Sequence[Row]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a ChatML template, trained on `rows`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCAB_SIZE,
        special_tokens=[_PAD, _BOS, _START, _EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    roles = ("system\n", "user\n", "assistant\n")
    tokenizer.train_from_iterator([*roles, *(text for row in rows for text in (row.question, row.answer))], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        additional_special_tokens=[_START],
        chat_template=_CHAT_TEMPLATE,
        model_max_length=_MAX_POSITIONS,
    )


def model_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A Llama of about five million parameters: minutes of training on a laptop's CPU."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": _MAX_POSITIONS,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "use_cache": True,
    }


def _readme(summary: str) -> str:
    return (
        f"Questions and answers from the documentation of Python {platform.python_version()}'s standard library,\n"
        "made by recipes/demo_data.py. The documentation is under the Python Software Foundation License.\n\n"
        "train.jsonl, held_out.jsonl  rows of messages; an object's rows are all in one of the two\n"
        "model/                       a tokenizer (byte-level BPE) and the config of a small Llama, without weights\n\n"
        f"{summary}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
