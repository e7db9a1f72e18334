"""`launcher why RUN`: what happened, why, and what to do; in about ten lines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

from launcher.cli.options import json_argument, named_run, print_json, run_argument
from launcher.cli.status import stage_lines
from launcher.errors import ExitCode
from launcher.plain import plain
from launcher.runs.why import Chapter, Story, why
from launcher.runs.words import clock, counted, duration, spaced

FIRST, LAST = 1, 3
"""Attempts at either end of a long history that are told one by one."""
INDENT = 12
MOST_REASON = 100
"""Letters of the reason of any attempt but the last; the whole of it is in its outcome.json."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print the story."""
    story = why(named_run(options))
    if options.json:
        print_json(plain(story))
    else:
        print("\n".join(lines(story)))
    return ExitCode.DONE


def lines(story: Story) -> Iterator[str]:
    """The story as a person would read it."""
    now = story.status
    where = f" at step {now.step} of {now.total_steps}" if now.total_steps is not None else ""
    yield f"{now.run_id} is {now.state.value}{where}{_beyond_last(story)}"
    yield from _attempts(story.attempts)
    for node, reason in story.avoided_nodes.items():
        yield _line("avoided", f"{node}: {_short(reason)}")
    for line in stage_lines(now.stages):
        yield _line("stage", line)
    if story.passed_over:
        passed = "; ".join(
            f"the checkpoint at step {item.step}, for {_short(item.reason)}" for item in story.passed_over
        )
        yield _line("passed over", passed)
    if story.attempts:
        yield _line("lost", _lost(story))
    yield _line("next", story.follows)
    if story.change:
        yield _line("to change", story.change)
    if now.checkpoint_interval is not None:
        every = "" if story.checkpoint_every is None else f" (it is {story.checkpoint_every})"
        words = f"checkpoint.every_steps={now.checkpoint_interval}{every} would lose the least time: √(2·MTTF·T_save)"
        yield _line("checkpoints", words)


def _beyond_last(story: Story) -> str:
    """What the state's reason says that the last attempt's line does not."""
    told = (story.attempts[-1].reason or "") if story.attempts else ""
    rest = (story.status.reason or "").removeprefix(told).removeprefix("; ")
    return f": {_first_line(rest)}" if rest else ""


def _line(name: str, text: str) -> str:
    return f"{name:<{INDENT}}{text}"


def _attempts(chapters: Sequence[Chapter]) -> Iterator[str]:
    hidden = chapters[FIRST:-LAST]
    if len(hidden) < 2:
        yield from _aligned(chapters)
        return
    shown = _aligned([*chapters[:FIRST], *chapters[-LAST:]])
    yield from shown[:FIRST]
    yield _line("…", _folded(hidden))
    yield from shown[FIRST:]


def _folded(chapters: Sequence[Chapter]) -> str:
    """Many attempts in one line."""
    counts = Counter(_class(chapter) for chapter in chapters).most_common()
    how = f"all {counts[0][0]}" if len(counts) == 1 else ", ".join(f"{count} {name}" for name, count in counts)
    return f"{len(chapters)} more attempts, {how}{_steps_lost(sum(chapter.lost_steps for chapter in chapters))}"


def _class(chapter: Chapter) -> str:
    return chapter.ended if chapter.failure is None else spaced(chapter.failure.value)


def _aligned(chapters: Sequence[Chapter]) -> list[str]:
    rows = [(chapter.nodes or "?", _when(chapter), _steps(chapter)) for chapter in chapters]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    cells = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [
        _line(f"attempt {chapter.attempt}", f"{cell}  {_ending(chapter, whole=chapter is chapters[-1])}")
        for chapter, cell in zip(chapters, cells, strict=True)
    ]


def _when(chapter: Chapter) -> str:
    return "?" if chapter.started is None else f"{clock(chapter.started)}, {duration(chapter.seconds)}"


def _steps(chapter: Chapter) -> str:
    return "no step" if chapter.first_step is None else f"steps {chapter.first_step}–{chapter.last_step}"


def _ending(chapter: Chapter, *, whole: bool) -> str:
    known = {"running": "running", "unknown": "ended, and nobody lived to say how"}
    how = known.get(chapter.ended, chapter.ended)
    if chapter.failure is not None:
        how = spaced(chapter.failure.value)
    text = chapter.reason or ""
    reason = f": {_first_line(text) if whole else _short(text)}" if text else ""
    return f"{how}{reason}{_steps_lost(chapter.lost_steps)}"


def _steps_lost(count: int) -> str:
    return f"; {counted(count, 'step')} lost" if count else ""


def _lost(story: Story) -> str:
    now = story.status
    steps = counted(now.lost_steps, "step") if now.lost_steps else "no step"
    back = f", {counted(story.rollbacks, 'rollback')}" if story.rollbacks else ""
    share = "" if now.goodput is None else f"; goodput {now.goodput:.1%}: time in steps that counted ÷ time allocated"
    return f"{steps}{back}{share}"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else text


def _short(text: str) -> str:
    first = _first_line(text)
    return first if len(first) <= MOST_REASON else f"{first[: MOST_REASON - 1]}…"
