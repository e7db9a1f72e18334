"""Tokenising a data set once, into a folder that is complete or absent.

Owns the cache: its key's folder, the work folder beside it that all who prepare the same key share, and who wins when
two finish at once. Must not know formats, templates or cleaning.

    CACHE/KEY/          the prepared data, renamed into place when it is whole
    CACHE/.KEY.work/    what is done so far: parts, each complete or absent, and private folders; gone when KEY is there
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.data.clean.buckets import BUCKET_BYTES
from launcher.data.key import Stats, cache_key, find, looks_for_held_out, remember, stat_marks
from launcher.data.make.assemble import SHARD_TOKENS
from launcher.data.make.finish import finish
from launcher.data.make.making import make_parts, write_held_out
from launcher.data.make.progress import Report, silent
from launcher.data.make.tokenise import Job
from launcher.data.read import pieces, resolved, unreadable
from launcher.data.source import DataSpec
from launcher.data.tokens import META_FILE
from launcher.errors import LauncherError, Problem, UserError
from launcher.publish import publish_dir

# Below this, starting processes (seconds, for transformers' imports) costs more than it saves.
SMALL_BYTES = 4 << 20
_LEAST_PIECE_BYTES, _MOST_PIECE_BYTES = 1 << 20, 32 << 20
_PIECES = 256
_TRIES = 5
# Longer than any preparation goes without writing a file.
_STALE_S = 86_400.0
_OLD_WORK_S = 7 * 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is held at once; none of it tells in the rows or their order."""

    piece_bytes: int | None = None
    """Of a source, for one worker at a time; None follows from the size of all, never from the number of workers."""
    small_bytes: int = SMALL_BYTES
    """Less than this is done in the process that asks."""
    bucket_bytes: int = BUCKET_BYTES
    """Records sorted at once."""
    shard_tokens: int = SHARD_TOKENS
    """Tokens of a file of tokens, at most."""


def prepare(
    spec: DataSpec, cache_root: Path, *, workers: int, report: Report = silent, sizes: Sizes | None = None
) -> Path:
    """The folder under `cache_root` that holds `spec` tokenised, made now unless it is there.

    Rows keep the order of the sources and of their lines, whatever `workers` is. What a killed preparation had done is
    not done again. Several processes may prepare the same spec at once; each uses the parts that others have made, and
    one's result is kept. Raises UserError for unusable files, rows (FILE:LINE, ten at most) and tokenizers, and then
    leaves nothing behind.
    """
    _check(spec)
    found = find(spec, cache_root)
    if found is not None:
        return found
    stats = stat_marks(spec)
    key = cache_key(spec)
    cache_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    final = cache_root / key
    for _ in range(_TRIES):
        if _is_there(final) or _try(spec, final, stats, workers, report, sizes or Sizes()):
            remember(spec, stats, key, cache_root)
            return final
    message = f"{_work(final)} was taken away {_TRIES} times while it was written to"
    raise LauncherError(Problem(where="data", message=message, remedy="look who removes it, and start again"))


def _check(spec: DataSpec) -> None:
    sources = (*spec.sources, *(spec.held_out if looks_for_held_out(spec) else ()))
    problems = [problem for source in sources for problem in unreadable(source, "data")]
    if spec.chat_template is not None and not Path(spec.chat_template).is_file():
        message = f"{spec.chat_template} is not a file"
        problems.append(Problem(where="data.chat_template", message=message, remedy="name a Jinja file"))
    if problems:
        raise UserError(*problems)


def _is_there(final: Path) -> bool:
    return (final / META_FILE).is_file()


def _work(final: Path) -> Path:
    return final.with_name(f".{final.name}.work")


def _try(spec: DataSpec, final: Path, stats: Stats, workers: int, report: Report, sizes: Sizes) -> bool:
    """Whether `final` is there now; False where the work folder vanished and it is not: start again."""
    work = _work(final)
    work.mkdir(mode=0o700, exist_ok=True)
    # Held open, so that no later folder gets its inode.
    try:
        held = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return _is_there(final)
    try:
        # Whoever published since the last look has taken the work folder away, and this one is new and empty.
        if not _is_there(final):
            _make(spec, final, stats, workers, report, sizes)
    except UserError:
        _remove(work)
        raise
    except FileNotFoundError:
        if _is_there(final):
            return True
        if work.exists() and os.path.samestat(work.stat(), os.fstat(held)):
            raise
        # Somebody else met a bad row, and removed what was done.
        return False
    finally:
        os.close(held)
    _remove(work)
    _sweep(final.parent)
    return True


def _make(spec: DataSpec, final: Path, stats: Stats, workers: int, report: Report, sizes: Sizes) -> None:
    here = replace(
        spec,
        sources=tuple(resolved(source) for source in spec.sources),
        held_out=tuple(resolved(source) for source in spec.held_out) if looks_for_held_out(spec) else (),
    )
    work = _work(final)
    piece_bytes = sizes.piece_bytes or _piece_bytes(here)
    held_out = work / "held-out" if looks_for_held_out(spec) else None
    if held_out is not None:
        write_held_out(here, held_out, piece_bytes, sizes.bucket_bytes)
    job = Job(key=final.name, spec=here, work=work, held_out=held_out)
    cut = pieces(here.sources, piece_bytes)
    counts = make_parts(job, cut, report, workers, sizes.small_bytes)
    with _private(work) as folder:
        many = workers if sum(piece.size_bytes for piece in cut) >= sizes.small_bytes else 1
        ready = finish(
            job,
            spec,
            cut,
            counts,
            folder,
            workers=many,
            bucket_bytes=sizes.bucket_bytes,
            shard_tokens=sizes.shard_tokens,
        )
        if stat_marks(spec) != stats:
            remedy = "start again once nothing writes to it any more"
            raise UserError(Problem(where="data", message="a source changed while it was read", remedy=remedy))
        _publish(ready, final)


def _piece_bytes(spec: DataSpec) -> int:
    """So much that there are some hundred pieces, for any number of workers, and none is large for memory."""
    total = sum(Path(path).stat().st_size for source in spec.sources for path in source.paths)
    return max(_LEAST_PIECE_BYTES, min(_MOST_PIECE_BYTES, total // _PIECES))


@contextlib.contextmanager
def _private(work: Path) -> Iterator[Path]:
    """A folder for this process alone, in the work folder: it goes with that if this process is killed."""
    for old in work.glob("assembly-*"):
        if _is_stale(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"assembly-{os.getpid()}-{socket.gethostname()}-", dir=work))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    """Whether the process that made a private folder is gone; of another machine's, whether it is still for long."""
    _, number, rest = folder.name.split("-", 2)
    if rest.startswith(f"{socket.gethostname()}-"):
        return not Path(f"/proc/{number}").exists()
    return _still_s(folder) > _STALE_S


def _still_s(folder: Path) -> float:
    """Seconds since anything in the folder was written; 0 where it is gone."""
    newest = 0.0
    with contextlib.suppress(FileNotFoundError):
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time() - newest if newest else 0.0


def _publish(ready: Path, final: Path) -> None:
    """Rename into place; where somebody else was first, theirs is the same and ours goes."""
    try:
        publish_dir(ready, final)
    except OSError:
        if not _is_there(final):
            raise


def _remove(work: Path) -> None:
    """Take a work folder away at once, so that nobody goes on in half of one, and then delete it."""
    gone = work.with_name(f"{work.name}.{os.getpid()}-{time.time_ns()}.gone")
    with contextlib.suppress(FileNotFoundError):
        os.rename(work, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(cache_root: Path) -> None:
    """Delete what killed processes left: work folders on their way out, and those that nobody came back to."""
    for gone in cache_root.glob(".*.gone"):
        shutil.rmtree(gone, ignore_errors=True)
    for work in cache_root.glob(".*.work"):
        if time.time() - work.stat().st_mtime > _OLD_WORK_S and _still_s(work) > _OLD_WORK_S:
            _remove(work)
