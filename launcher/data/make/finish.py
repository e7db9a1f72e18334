"""From all parts to the prepared folder: duplicates out, rejected rows written, the rest put together.

Owns the second half of a preparation, which one process does from beginning to end. Must not know the cache.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

import numpy as np

from launcher.data.clean.duplicates import Firsts, Search, find_exact, find_near
from launcher.data.clean.fit import Cut
from launcher.data.key import DATA_VERSION
from launcher.data.make.assemble import Assembly
from launcher.data.make.parts import STORED, Counts, column, part_dir
from launcher.data.make.pool import each
from launcher.data.make.rejected import BLOCK_ROWS, Closing, Made, placed, rejected_file, write_rejected
from launcher.data.make.sliced import Sliced, read_values
from launcher.data.make.summary import Tally, by_name
from launcher.data.make.tokenise import Job, similar, work_alone
from launcher.data.read import Piece
from launcher.data.reject import Step
from launcher.data.source import DataSpec, Duplicates
from launcher.data.tokens import DTYPES, META_FILE, AnyArray, FileMark, Meta, SourceMeta
from launcher.errors import Problem, UserError
from launcher.plain import plain
from launcher.publish import publish_json

_BLOCK_TOKENS = 1 << 22


def finish(
    job: Job,
    spec: DataSpec,
    pieces: list[Piece],
    counts: list[Counts],
    folder: Path,
    *,
    workers: int,
    bucket_bytes: int,
    shard_tokens: int,
) -> Path:
    """The folder, within the private `folder`, that is ready to be published as `spec` prepared.

    UserError where no row is left.
    """
    made = placed(pieces, counts)
    index, final = folder / "index", folder / "final"
    for new in (index, final):
        new.mkdir(mode=0o700)
    closing = Closing(job=job, made=tuple(made), repeats=_repeats(job, made, index, bucket_bytes), folder=index)
    touched = [mine.number for mine in made if _loses(closing, mine)]
    few = min(workers, max(len(touched), 1))
    for _ in each(write_rejected, closing, touched, few, work_alone):
        pass
    with Assembly(final, shard_tokens) as assembly:
        sources, tallies = [], []
        sliced = Sliced(spec.slices)
        for number, source in enumerate(spec.sources):
            tally = Tally(source=source)
            for mine in made:
                if mine.piece.source == number:
                    _add_part(closing, mine, assembly, tally, sliced)
            tallies.append(tally)
            sources.append(tally.meta(assembly.pack(tally.rows, spec.seq_len, spec.learns.rows_per_example)))
        _refuse_nothing(spec, tallies)
        if spec.slices:
            sliced.write(assembly)
        meta = _meta(job, spec, tallies, tuple(sources), assembly.sync())
    publish_json(final / META_FILE, plain(meta))
    return final


def _repeats(job: Job, made: list[Made], folder: Path, bucket_bytes: int) -> tuple[tuple[Step, Firsts], ...]:
    clean = job.spec.clean
    if clean.duplicates is Duplicates.keep:
        return ()
    parts = [part_dir(job.work, mine.number, mine.piece) for mine in made]
    rows = [mine.counts.rows for mine in made]
    search = Search(parts=parts, rows=rows, folder=folder, bucket_bytes=bucket_bytes)
    exact = find_exact(search)
    if clean.duplicates is Duplicates.exact:
        return ((Step.duplicate, exact),)
    near = find_near(search, exact, similar(clean.similarity).bands, clean.similarity)
    return (Step.duplicate, exact), (Step.near_duplicate, near)


def _loses(closing: Closing, made: Made) -> bool:
    """Whether any row of a part is rejected."""
    if made.counts.refused:
        return True
    for low in range(0, made.counts.rows, BLOCK_ROWS):
        entries, firsts, _ = closing.fates(made, low, min(low + BLOCK_ROWS, made.counts.rows))
        if not closing.stays(entries, firsts).all():
            return True
    return False


def _add_part(closing: Closing, made: Made, assembly: Assembly, tally: Tally, sliced: Sliced) -> None:
    """Append the rows of a part that stay, and the lines of those that do not."""
    folder = part_dir(closing.job.work, made.number, made.piece)
    stored, tokens, trained = (
        column(folder, name, dtype)
        for name, dtype in (("stored", STORED), ("tokens", DTYPES["tokens"]), ("trained", DTYPES["trained"]))
    )
    values = read_values(folder)
    width = closing.job.spec.target_width
    targets = column(folder, "targets", np.float32).reshape(-1, width) if width else None
    tally.add_part(made.counts)
    row, token = 0, 0
    block = max(1, _BLOCK_TOKENS // closing.job.spec.seq_len)
    for low in range(0, made.counts.rows, block):
        entries, firsts, steps = closing.fates(made, low, min(low + block, made.counts.rows))
        stays = closing.stays(entries, firsts)
        mine = stored[row : row + int(entries["stored"].sum())]
        stop = token + int(mine["tokens"].sum())
        kept = np.repeat(stays, entries["stored"])
        # In most blocks all rows stay, and one of tokens is 16 MiB.
        here = slice(None) if stays.all() else np.repeat(kept, mine["tokens"])
        assembly.add(tokens[token:stop][here], trained[token:stop][here], mine["tokens"][kept], mine["trained"][kept])
        if targets is not None:
            # An example that was cut into several is not labelled: such rows are refused.
            assembly.add_targets(targets[low : low + len(entries)][stays])
        if closing.job.spec.slices:
            sliced.add(values, entries["stored"], kept)
        tally.add_rows(entries[stays], mine[kept])
        _count_rejected(closing, steps, stays, tally)
        row, token = row + len(mine), stop
    if rejected_file(closing.folder, made.number).exists():
        assembly.add_rejected(rejected_file(closing.folder, made.number))


def _count_rejected(closing: Closing, steps: AnyArray, stays: AnyArray, tally: Tally) -> None:
    for place, (step, _) in enumerate(closing.repeats):
        tally.rejected[step.value] += int((steps == place + 1).sum())
    tally.rejected[Step.contaminated.value] += int((~stays & (steps == 0)).sum())


def _refuse_nothing(spec: DataSpec, tallies: list[Tally]) -> None:
    """UserError where no row is left to train on."""
    if any(tally.rows for tally in tallies):
        return
    names = ", ".join(source.name for source in spec.sources) or "no source"
    rows_in = sum(tally.rows_in for tally in tallies)
    if not rows_in:
        raise UserError(
            Problem(where="data", message=f"no rows at all in {names}", remedy="check the files and data limits")
        )
    rejected: Counter[str] = sum((tally.rejected for tally in tallies), Counter())
    told = ", ".join(f"{step} {count}" for step, count in rejected.most_common())
    where, remedy = _REMEDIES.get(rejected.most_common(1)[0][0], ("data.clean", "`launcher data check` names the rows"))
    raise UserError(
        Problem(where=where, message=f"none of the {rows_in} rows of {names} is left: {told}", remedy=remedy)
    )


_SHOWING = (
    "set data.chat_template=FILE to one that shows the assistant's turns; ${shipped:chat_templates/chatml.jinja} does"
)
_REMEDIES = {
    Step.template.value: ("data.chat_template", _SHOWING),
    Step.overlong.value: (
        "data.seq_len",
        "raise data.seq_len, or set data.overlong=truncate_right, truncate_left or split",
    ),
    Step.untrained.value: (
        "data.train_on",
        "set data.train_on=all, or a data.chat_template that keeps what the assistant says; where rows were cut, "
        "raise data.seq_len",
    ),
    Step.contaminated.value: ("data.eval", "name held-out rows that are not the training rows"),
    Step.too_short.value: ("data.clean.min_tokens", "lower data.clean.min_tokens"),
}


def _meta(
    job: Job, spec: DataSpec, tallies: list[Tally], sources: tuple[SourceMeta, ...], files: dict[str, FileMark]
) -> Meta:
    cuts: Counter[int] = sum((tally.cuts for tally in tallies), Counter())
    return Meta(
        key=job.key,
        data_version=DATA_VERSION,
        rows_in=sum(tally.rows_in for tally in tallies),
        rows=sum(tally.rows for tally in tallies),
        truncated=cuts[Cut.truncated],
        split=cuts[Cut.split],
        untrained_pieces=sum(tally.untrained_pieces for tally in tallies),
        tokens=sum(tally.tokens for tally in tallies),
        trained_tokens=sum(tally.trained_tokens for tally in tallies),
        longest=max(tally.longest for tally in tallies),
        sources=sources,
        files=files,
        spec=plain(spec),
        versions={name: importlib.metadata.version(name) for name in ("tokenizers", "transformers")},
        rejected=dict(sum((Counter(source.rejected) for source in sources), Counter())),
        rows_per_example=spec.learns.rows_per_example,
        target_width=spec.target_width,
        lengths=by_name(sum((tally.lengths for tally in tallies), Counter())),
        turns=by_name(sum((tally.turns for tally in tallies), Counter())),
    )
