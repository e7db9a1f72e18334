"""What finding the loss mask costs on top of bare tokenizers: both in one run, in turn, on one core, on the same text.

    python -m benchmarks.tokenise [rows.jsonl] [--rows 4000] [--rounds 5] [--vocab 8192]

The bare side is `encode_batch` of the text that rows are rendered to; the other side is `Encoder.encode_all` on the
rows, rendering, masks and arrays included. `rows.jsonl` has "question" and "answer", as GSM8K; without it words are
made up. The tokenizer is a byte-level BPE trained on the same text. Prints tokens a second of processor time and the
ratio of each kind of row; 1.00 is no cost. The next lines are of all of `prepare`: reading, cleaning, duplicates,
packing and writing to disk, on `--copies` times the rows.

The last are of all cores at once, by the clock: threads of `tokenizers` on the bare side, processes on the other. What
starting those takes, once, is told apart: two sizes are prepared, and the rows of the larger one that the smaller one
has not are what the ratio is of.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from launcher.config.search import shipped
from launcher.data.formats import Conversation, Message, PlainText
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.render.encode import Encoder
from launcher.data.source import CleanConfig, DataSpec, Overlong, Source, TrainOn
from launcher.data.tokens import Meta
from launcher.decode import decode

BATCH = 1000
TEMPLATES = Path(__file__).parents[1] / "recipes" / "chat_templates"
FAMILIES = Path(__file__).parents[1] / "tests" / "data" / "templates"
KINDS = {
    "text": None,
    "prompt and completion": None,
    "chat, marked (chatml)": TEMPLATES / "chatml.jinja",
    "chat, probed (Llama 3.1)": FAMILIES / "llama3_1.jinja",
    "chat, probed (Qwen3)": FAMILIES / "qwen3.jinja",
    "chat of 8 turns (Qwen2.5)": FAMILIES / "qwen2_5.jinja",
}
CLEAN = decode(CleanConfig, OmegaConf.to_container(OmegaConf.load(shipped("conf") / "data" / "default.yaml").clean))
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def main() -> None:
    """Train the tokenizer, then measure each kind of row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=Path)
    parser.add_argument("--rows", dest="count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--copies", type=int, default=3)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pairs = list(itertools.islice(read(options.rows) if options.rows else made_up(), options.count))
    tokenizer = train(pairs, options.vocab)
    for kind, template in KINDS.items():
        tokenizer.chat_template = None if template is None else template.read_text(encoding="utf-8")
        measure(kind, Encoder(tokenizer), tokenizer, list(rows_of(kind, pairs)), options.rounds)
    copies = [(f"{number}. {ask}", say) for number in range(options.copies) for ask, say in pairs]
    for kind in ("prompt and completion", "chat, marked (chatml)"):
        template = KINDS[kind]
        tokenizer.chat_template = None if template is None else template.read_text(encoding="utf-8")
        # Other machines on this one's processor come and go within seconds.
        measure_prepare(kind, tokenizer, copies, 3 * options.rounds)
    measure_all_cores(tokenizer, pairs, options.copies, options.rounds)


def measure_prepare(kind: str, tokenizer: Any, pairs: Sequence[tuple[str, str]], rounds: int) -> None:
    """Bare encoding and all of a preparation in this process, in turn."""
    texts = [rendered(tokenizer, row) for row in rows_of(kind, pairs)]
    backend = tokenizer.backend_tokenizer
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = written(folder, kind, tokenizer, pairs)
        # Once before, for imports and the tokenizer.
        prepare(replace(spec, sources=(replace(spec.sources[0], limit=10),)), folder / "data", workers=1)
        bare, ours = [], []
        for number in range(rounds):
            bare.append(seconds(lambda batch: backend.encode_batch(batch, add_special_tokens=False), texts))
            started = time.process_time()
            meta = Meta.read(prepare(spec, folder / f"{number}", workers=1, sizes=Sizes(small_bytes=1 << 40)))
            ours.append(time.process_time() - started)
    ratio = median(one / other for one, other in zip(bare, ours, strict=True))
    rates = f"bare {meta.tokens / median(bare) / 1e6:.2f} M tokens/s, prepared {meta.tokens / median(ours) / 1e6:.2f}"
    print(f"prepare, {kind}: {meta.rows:,} rows, {meta.tokens:,} tokens; {rates}, ratio {ratio:.2f}")


def written(folder: Path, kind: str, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> DataSpec:
    """The pairs and the tokenizer as files in `folder`, and what is to be made of them."""
    folder.mkdir(exist_ok=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    row = spoken if kind.startswith("chat") else asked
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row(*pair)) + "\n" for pair in pairs)
    return DataSpec(
        sources=(Source(name="rows", paths=(str(folder / "rows.jsonl"),)),),
        held_out=(),
        tokenizer=str(folder / "tokenizer"),
        chat_template=None,
        train_on=TrainOn.assistant,
        seq_len=2048,
        overlong=Overlong.drop,
        clean=CLEAN,
    )


def measure_all_cores(tokenizer: Any, pairs: Sequence[tuple[str, str]], copies: int, rounds: int) -> None:
    """Both sides on every core, in turn, and what a row more costs each."""
    kind, cores = "prompt and completion", len(os.sched_getaffinity(0))
    tokenizer.chat_template = None
    few, many = (
        [(f"{number}. {ask}", say) for number in range(size) for ask, say in pairs] for size in (copies, 8 * copies)
    )
    backend = tokenizer.backend_tokenizer
    rows = len(many) - len(few)
    texts = [rendered(tokenizer, row) for row in rows_of(kind, many[:rows])]
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = (written(folder / which, kind, tokenizer, some) for which, some in (("s", few), ("l", many)))
        for number in range(rounds):
            bare = threaded_in(backend, texts)
            short, long = (prepared_in(spec, folder / f"{number}", cores) for spec in (small, large))
            ratios.append(bare / (long - short))
            print(
                f"{cores} cores, {kind}: {rows:,} rows bare in {bare:.1f} s; {len(few):,} prepared in {short:.1f} s, "
                f"{len(many):,} in {long:.1f} s, so {rows:,} more in {long - short:.1f} s; ratio {ratios[-1]:.2f}"
            )
    print(f"{cores} cores, {kind}: ratio {median(ratios):.2f}")


def threaded_in(backend: Any, texts: Sequence[str]) -> float:
    """Seconds of encoding all texts on all cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    started = time.perf_counter()
    for at in range(0, len(texts), BATCH):
        backend.encode_batch(texts[at : at + BATCH], add_special_tokens=False)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return time.perf_counter() - started


def prepared_in(spec: DataSpec, folder: Path, workers: int) -> float:
    """Seconds of a preparation by so many processes."""
    started = time.perf_counter()
    prepare(spec, folder, workers=workers, sizes=Sizes(small_bytes=0))
    return time.perf_counter() - started


def asked(question: str, answer: str) -> dict[str, Any]:
    """A row of prompt and completion."""
    return {"prompt": f"{question}\n", "completion": answer}


def spoken(question: str, answer: str) -> dict[str, Any]:
    """A row of messages."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def read(path: Path) -> Iterator[tuple[str, str]]:
    """Questions and answers of a file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["question"], row["answer"]


def made_up() -> Iterator[tuple[str, str]]:
    """Questions and answers of words that nobody says, short ones more often than long ones."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlucm", k=draw.randint(2, 9))) for _ in range(5000)]
    weights = [1 / (place + 1) for place in range(len(words))]
    while True:
        question, answer = (" ".join(draw.choices(words, weights, k=draw.randint(20, 90))) for _ in range(2))
        yield question + "?", answer + "."


def train(pairs: Sequence[tuple[str, str]], vocab: int) -> Any:
    """A byte-level BPE on the pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def rows_of(kind: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Conversation]:
    """The pairs as rows of one kind."""
    if kind == "text":
        return (Conversation(plain=PlainText(prompt="", completion=f"{ask}\n{say}")) for ask, say in pairs)
    if kind == "prompt and completion":
        return (Conversation(plain=PlainText(prompt=f"{ask}\n", completion=say)) for ask, say in pairs)
    turns = 4 if "8 turns" in kind else 1
    return (Conversation(messages=tuple(messages(pairs[at : at + turns]))) for at in range(0, len(pairs), turns))


def messages(pairs: Sequence[tuple[str, str]]) -> Iterator[Message]:
    """A conversation of these questions and answers."""
    for question, answer in pairs:
        yield Message(role="user", content=question)
        yield Message(role="assistant", content=answer)


def measure(kind: str, encoder: Encoder, tokenizer: Any, rows: list[Conversation], rounds: int) -> None:
    """Both sides in turn, batch by batch."""
    texts = [rendered(tokenizer, row) for row in rows]
    backend = tokenizer.backend_tokenizer
    tokens = sum(len(encoding) for encoding in backend.encode_batch(texts, add_special_tokens=False))
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(seconds(lambda batch: backend.encode_batch(batch, add_special_tokens=False), texts))
        ours.append(seconds(encoder.encode_all, rows))
    ratio = median(one / other for one, other in zip(bare, ours, strict=True))
    print(
        f"{kind:28} {tokens / len(rows):5.0f} tokens a row; bare {tokens / median(bare) / 1e6:.2f} M tokens/s, "
        f"with masks {tokens / median(ours) / 1e6:.2f}, ratio {ratio:.2f}"
    )


def rendered(tokenizer: Any, row: Conversation) -> str:
    """The text that is tokenised."""
    if row.plain is not None:
        return row.plain.prompt + row.plain.completion
    turns = [{"role": message.role, "content": message.content} for message in row.messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024"))


def seconds(encode: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Processor time of encoding all items."""
    started = time.process_time()
    for at in range(0, len(items), BATCH):
        encode(items[at : at + BATCH])
    return time.process_time() - started


if __name__ == "__main__":
    main()
