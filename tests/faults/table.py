"""What many trials come to: one markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.faults.judge import Verdict

HEAD = ("fault", "trials", "survived", "steps lost", "seconds to the next step")


def table(verdicts: Sequence[Verdict]) -> str:
    """A row a fault, in alphabetical order, and one for all."""
    names = sorted({verdict.name for verdict in verdicts})
    rows = [_row(name, [verdict for verdict in verdicts if verdict.name == name]) for name in names]
    lines = [HEAD, ("---", "--:", "--:", "--:", "--:"), *rows, _row("**all**", verdicts)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def page(verdicts: Sequence[Verdict], seed: int, minutes: float) -> str:
    """What `make chaos` leaves in docs/."""
    return (
        "# Broken on purpose\n\n"
        "Written by `make chaos`: short trainings (two nodes, ZeRO 1 to 3) on a private Slurm, each broken a few "
        "times and held against one that was not. A run survives a fault if it goes on by itself (or, where that is "
        "for its user to decide, after `launcher resume`), and every loss, gradient norm, held-out loss and sample "
        "is the undisturbed run's, bit for bit; no more steps are lost than the checkpoint interval explains; the "
        "cause is named as it should be; and nothing is left running or lying about.\n\n"
        "Median, and the worst in brackets. Seconds are from the fault to the first step after it, on two shared CPU "
        f"cores, without the pause for which Slurm holds a requeued job back. Seed {seed}, {minutes:.0f} minutes.\n\n"
        f"{table(verdicts)}\n{totals(verdicts)}\n"
    )


def totals(verdicts: Sequence[Verdict]) -> str:
    """Mismatches, silent loads and leftovers, in a sentence."""
    kinds = [problem.kind for verdict in verdicts for problem in verdict.problems]
    silent, left = kinds.count("silent load"), kinds.count("leftover")
    wrong = sum(any(problem.kind == "mismatch" for problem in verdict.problems) for verdict in verdicts)
    by_hand = sum(verdict.by_hand for verdict in verdicts)
    return (
        f"{len(verdicts)} trials: {wrong} with a mismatch, {silent} silent loads, {left} things left behind; "
        f"after {by_hand} the run was resumed by its user, as it should be."
    )


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    survived = sum(not verdict.problems for verdict in verdicts)
    lost = [float(verdict.lost) for verdict in verdicts if verdict.lost is not None]
    seconds = [verdict.seconds for verdict in verdicts if verdict.seconds is not None]
    return name, str(len(verdicts)), str(survived), _spread(lost, 0), _spread(seconds, 1)


def _spread(values: Sequence[float], digits: int) -> str:
    """Median, and the worst in brackets."""
    if not values:
        return "–"
    return f"{statistics.median(values):.{digits}f} ({max(values):.{digits}f})"
