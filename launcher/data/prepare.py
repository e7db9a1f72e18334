"""Tokenising a data set once, into a folder that is complete or absent.

Owns the cache: its key's folder, the private folder beside it, the worker processes, and who wins when two prepare at
once. Must not know formats or templates (`chunks` does the work).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import multiprocessing
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from launcher.data.assemble import Assembly
from launcher.data.chunks import MOST_FAULTS, Chunk, Part, tokenise, tokenise_in_worker
from launcher.data.encode import load_encoder
from launcher.data.jsonl import end_of_rows, line_problem
from launcher.data.key import DATA_VERSION, cache_key
from launcher.data.progress import Progress, Report, silent
from launcher.data.read import unreadable
from launcher.data.source import DataSpec, Source
from launcher.data.tokens import META_FILE, FileMark, Meta, SourceMeta
from launcher.errors import LauncherError, Problem, UserError
from launcher.plain import plain
from launcher.publish import publish_dir, publish_json

CHUNK_BYTES = 8 << 20
# Below this, starting processes (seconds, for transformers' imports) costs more than it saves.
SMALL_BYTES = 4 << 20
_SMALLEST_CHUNK_BYTES = 1 << 20
# After the first bad row, so many chunks more are searched for others, and not the whole data set.
_SEARCH_CHUNKS = 16


def prepare(
    spec: DataSpec,
    cache_root: Path,
    *,
    workers: int,
    report: Report = silent,
    chunk_bytes: int | None = None,
    small_bytes: int = SMALL_BYTES,
) -> Path:
    """The folder under `cache_root` that holds `spec` tokenised, made now unless it is there.

    Rows keep the order of the sources and of their lines, whatever `workers` and `chunk_bytes` are; less than
    `small_bytes` is done in this process. Several processes may prepare the same spec at once; one's work is kept.
    Raises UserError for unusable files, rows (FILE:LINE, ten at most) and tokenizers, and then leaves nothing behind.
    """
    _check(spec)
    key = cache_key(spec)
    final = cache_root / key
    if (final / META_FILE).is_file():
        return final
    cache_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{key[:16]}.", dir=cache_root))
    try:
        chunks = _chunks(spec, workers, chunk_bytes)
        processes = workers if _bytes(chunks) >= small_bytes else 1
        # Closed before the folder goes, so that no worker is left writing into it.
        with contextlib.closing(_parts(spec, chunks, temporary, processes)) as parts:
            meta = _build(spec, key, zip(chunks, parts, strict=False), temporary, report, _bytes(chunks))
        if cache_key(spec) != key:
            remedy = "start again once nothing writes to it any more"
            raise UserError(Problem(where="data", message="a source changed while it was read", remedy=remedy))
        publish_json(temporary / META_FILE, plain(meta))
        _publish(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _check(spec: DataSpec) -> None:
    problems = [problem for source in spec.sources for problem in unreadable(source, "data")]
    if spec.chat_template is not None and not Path(spec.chat_template).is_file():
        message = f"{spec.chat_template} is not a file"
        problems.append(Problem(where="data.chat_template", message=message, remedy="name a Jinja file"))
    if problems:
        raise UserError(*problems)


def _chunks(spec: DataSpec, workers: int, chunk_bytes: int | None) -> list[Chunk]:
    """All sources cut into byte ranges; without a size given, small enough to keep every worker busy."""
    files = [(source, Path(path)) for source in spec.sources for path in source.paths]
    ends = [path.stat().st_size if source.limit is None else end_of_rows(path, source.limit) for source, path in files]
    size = chunk_bytes or max(_SMALLEST_CHUNK_BYTES, min(CHUNK_BYTES, sum(ends) // (4 * workers)))
    ranges = [
        (source, path, start, min(start + size, end))
        for (source, path), end in zip(files, ends, strict=True)
        for start in range(0, end, size)
    ]
    return [
        Chunk(number=number, source=source, path=str(path), start_byte=start, end_byte=end)
        for number, (source, path, start, end) in enumerate(ranges)
    ]


def _bytes(chunks: Iterable[Chunk]) -> int:
    return sum(chunk.end_byte - chunk.start_byte for chunk in chunks)


def _parts(spec: DataSpec, chunks: list[Chunk], folder: Path, workers: int) -> Generator[Part, None, None]:
    """What became of each chunk, in order; ends early some way after a bad row."""
    made = _parts_here(spec, chunks, folder) if workers == 1 else _parts_in_pool(spec, chunks, folder, workers)
    with contextlib.closing(made):
        for part in made:
            yield part
            if part.faults:
                yield from itertools.islice(made, _SEARCH_CHUNKS)
                return


def _parts_here(spec: DataSpec, chunks: list[Chunk], folder: Path) -> Generator[Part, None, None]:
    encoder = load_encoder(spec.tokenizer, spec.chat_template, spec.train_on)
    for chunk in chunks:
        yield tokenise(spec, chunk, folder, encoder)


def _parts_in_pool(spec: DataSpec, chunks: list[Chunk], folder: Path, workers: int) -> Generator[Part, None, None]:
    """Like `_parts_here` in `workers` processes, never more than two chunks per worker ahead of the reader."""
    # Not fork: a training process has threads and perhaps CUDA, neither of which survives it.
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=multiprocessing.get_context("spawn"))
    waiting: deque[Future[Part]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(tokenise_in_worker, spec, chunk, folder))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        message = f"one of {workers} tokenising processes was killed, most often for want of memory"
        raise LauncherError(Problem(where="data", message=message, remedy="use fewer workers")) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _build(
    spec: DataSpec, key: str, made: Iterable[tuple[Chunk, Part]], folder: Path, report: Report, bytes_total: int
) -> Meta:
    """Assemble parts as they come; UserError with every problem found."""
    problems: list[Problem] = []
    total, bytes_done = Part(), 0
    total_of: list[tuple[Source, Part]] = []
    sources: list[SourceMeta] = []
    with Assembly(folder) as assembly:
        for chunk, part in made:
            path = Path(chunk.path)
            problems += part.problems
            problems += (line_problem(path, fault) for fault in part.faults)
            if part.problems or len(problems) >= MOST_FAULTS:
                break
            if total_of and chunk.source is not total_of[-1][0]:
                sources.append(_close(assembly, spec, *total_of[-1]))
            if not total_of or chunk.source is not total_of[-1][0]:
                total_of.append((chunk.source, Part()))
            assembly.add(chunk.number)
            _add(total, part)
            _add(total_of[-1][1], part)
            bytes_done += chunk.end_byte - chunk.start_byte
            report(Progress(bytes_done=bytes_done, bytes_total=bytes_total, rows=total.rows_in, tokens=total.tokens))
        problems = problems or _nothing_left(spec, total)
        if problems:
            raise UserError(*problems[:MOST_FAULTS])
        sources.append(_close(assembly, spec, *total_of[-1]))
        return _meta(spec, key, total, tuple(sources), assembly.sync())


def _close(assembly: Assembly, spec: DataSpec, source: Source, part: Part) -> SourceMeta:
    packs = assembly.pack(part.rows, spec.seq_len)
    return SourceMeta(name=source.name, rows=part.rows, packs=packs, tokens=part.tokens)


def _add(total: Part, part: Part) -> None:
    total.longest = max(total.longest, part.longest)
    counts = ("rows_in", "rows", "dropped_overlong", "dropped_untrained", "truncated", "tokens", "trained_tokens")
    for name in counts:
        setattr(total, name, getattr(total, name) + getattr(part, name))


def _nothing_left(spec: DataSpec, total: Part) -> list[Problem]:
    if total.rows:
        return []
    names = ", ".join(source.name for source in spec.sources) or "no source"
    if not total.rows_in:
        return [Problem(where="data", message=f"no rows at all in {names}", remedy="check the files and data limits")]
    message = f"none of the {total.rows_in} rows of {names} can be used: each has more than {spec.seq_len} tokens"
    return [Problem(where="data.seq_len", message=message, remedy="raise data.seq_len, or set data.overlong=truncate")]


def _meta(spec: DataSpec, key: str, total: Part, sources: tuple[SourceMeta, ...], files: dict[str, FileMark]) -> Meta:
    return Meta(
        key=key,
        data_version=DATA_VERSION,
        rows_in=total.rows_in,
        rows=total.rows,
        dropped_overlong=total.dropped_overlong,
        dropped_untrained=total.dropped_untrained,
        truncated=total.truncated,
        tokens=total.tokens,
        trained_tokens=total.trained_tokens,
        longest=total.longest,
        sources=sources,
        files=files,
        spec=plain(spec),
        versions={name: importlib.metadata.version(name) for name in ("tokenizers", "transformers")},
    )


def _publish(temporary: Path, final: Path) -> None:
    """Rename into place; where somebody else was first, theirs is the same and ours goes."""
    try:
        publish_dir(temporary, final)
    except OSError:
        if not (final / META_FILE).is_file():
            raise
