"""What a run takes, on the page of its plan: time, money and disk."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.expected import Pace
from launcher.runplan import RunPlan


def time_lines(plan: RunPlan) -> Iterator[str]:
    """The step, the whole run, and what goes wrong on the way."""
    expected, cluster, ranks = plan.expected, plan.config.cluster, plan.topology.world_size
    yield from _step(expected.pace)
    steps = "steps: " + expected.steps_how if expected.steps is None else f"{expected.steps:,} steps"
    if expected.hours is not None and expected.gpu_hours is not None:
        saves = f", {expected.saves:,} checkpoint{'' if expected.saves == 1 else 's'} in it"
        yield f"{steps}: {span(expected.hours)}, {hours(expected.gpu_hours)} on {ranks} GPUs{saves}"
        if expected.price is not None:
            yield f"{expected.price:,.2f} at {cluster.gpu_hour_price:g} a GPU-hour"
    elif expected.thousand_gpu_hours is not None:
        yield f"{steps}; 1,000 of them take {hours(expected.thousand_gpu_hours)}"
    else:
        yield steps
    if expected.jobs is not None and expected.jobs > 1:
        yield f"{expected.jobs} jobs one after another, each of {cluster.time_min} min"
    yield from _failures(plan)


def _step(pace: Pace) -> Iterator[str]:
    tokens = f"{pace.tokens:,} tokens ({pace.tokens_how})"
    if pace.step_s is None or pace.tokens_per_s is None:
        yield f"a step of {tokens}"
        yield f"its time is {pace.how}"
        return
    used = "" if pace.mfu is None else f", {pace.mfu:.0%} MFU"
    yield f"a step of {tokens} in {seconds(pace.step_s)}: {pace.tokens_per_s:,.0f} tokens/s{used}"
    yield pace.how
    if pace.compute_s is not None and pace.traffic_s is not None:
        yield f"computing takes {seconds(pace.compute_s)}, traffic {seconds(pace.traffic_s)}"
    if pace.not_counted:
        yield f"not counted: {', '.join(pace.not_counted)}"


def _failures(plan: RunPlan) -> Iterator[str]:
    expected, mttf = plan.expected, plan.config.cluster.mttf_hours_per_gpu
    words = []
    if expected.interruptions is not None:
        words.append(f"{expected.interruptions:.2g} failures are to be expected, at one in {mttf:,.0f} GPU-hours")
    if expected.goodput is not None:
        words.append(f"goodput {expected.goodput:.1%}")
    if expected.best_every is not None:
        words.append(f"best a checkpoint every {expected.best_every:,} steps")
    if words:
        yield "; ".join(words)


def disk_lines(plan: RunPlan) -> Iterator[str]:
    """A checkpoint, and all that are there at a time."""
    disk, pace = plan.expected.disk, plan.expected.pace
    waits = f", of which training waits for {seconds(pace.stall_s)}" if pace.stall_s < pace.save_s else ""
    how = "measured" if pace.measured else "assumed"
    yield f"{gigabytes(disk.checkpoint_gb)} a checkpoint, in {disk.files:,} files"
    yield f"written in {seconds(pace.save_s)}{waits} ({how})"
    if disk.most is None or disk.most_gb is None:
        yield "how many stay grows with the run"
    else:
        yield f"at most {disk.most:,} at a time: {gigabytes(disk.most_gb)}"


def span(time_h: float) -> str:
    """Hours as a person says them."""
    if time_h < 1:
        return f"{60 * time_h:.1f} min"
    return f"{time_h:.1f} hours" if time_h < 48 else f"{time_h / 24:.1f} days"


def hours(gpu_hours: float) -> str:
    """GPU-hours, with as many digits as tell something."""
    return f"{gpu_hours:,.0f} GPU-hours" if gpu_hours >= 10 else f"{gpu_hours:.2g} GPU-hours"


def gigabytes(size_gb: float) -> str:
    """GB, the same."""
    return f"{size_gb:,.1f} GB" if size_gb >= 1 else f"{size_gb:.2g} GB"


def seconds(time_s: float) -> str:
    """Seconds, the same."""
    return f"{time_s:,.0f} s" if time_s >= 100 else f"{time_s:.2g} s"
