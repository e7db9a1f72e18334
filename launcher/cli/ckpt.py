"""`launcher ckpt ls|verify|prune RUN`: a run's checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from launcher.checkpoint.inventory import Entry, Standing, entries
from launcher.checkpoint.manifest import committed_steps, read_manifest, step_folder
from launcher.checkpoint.verify import faults
from launcher.cli.ls import columns
from launcher.cli.options import json_argument, named_run, print_json, run_argument
from launcher.cli.reading import reading_shown
from launcher.errors import DoesNotHoldError, ExitCode, NotFoundError, Problem, UserError, closest_first
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runs.prune import policy_of, prune
from launcher.runs.records import held_out_loss
from launcher.runs.words import clock, size

OPTIONS = {"ls": (), "verify": ("step",), "prune": ("keep_last", "dry_run")}
"""What can be done, and the options that it takes."""
HEADINGS = ("STEP", "WRITTEN", "SIZE", "RANKS", "ZERO", "DTYPE", "ATTEMPT", "HELD-OUT LOSS", "")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("action", metavar="|".join(OPTIONS), help="list them, read and hash them, or remove old ones")
    run_argument(parser)
    parser.add_argument("--step", type=int, metavar="N", help="verify: the checkpoint at step N (all)")
    parser.add_argument("--keep-last", type=int, metavar="N", help="prune: how many stay (checkpoint.keep_last)")
    parser.add_argument("--dry-run", action="store_true", help="prune: only say what would go")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Do it."""
    _require_sense(options)
    found = named_run(options)
    {"ls": _ls, "verify": _verify, "prune": _prune}[options.action](found, options)
    return ExitCode.DONE


def _require_sense(options: argparse.Namespace) -> None:
    if options.action not in OPTIONS:
        nearest = ", ".join(closest_first(options.action, OPTIONS))
        raise UserError(Problem(where="ckpt", message=f"there is no {options.action!r} of checkpoints", valid=nearest))
    values = {"step": options.step, "keep_last": options.keep_last, "dry_run": options.dry_run or None}
    for name, value in values.items():
        if value is not None and name not in OPTIONS[options.action]:
            flag, owner = f"--{name.replace('_', '-')}", next(verb for verb in OPTIONS if name in OPTIONS[verb])
            raise UserError(Problem(where=flag, message=f"`ckpt {options.action}` takes none; `ckpt {owner}` does"))
    if options.keep_last is not None and options.keep_last < 1:
        raise UserError(
            Problem(where="--keep-last", message=f"{options.keep_last} would keep nothing", valid="1 or more")
        )


def _ls(found: RunDir, options: argparse.Namespace) -> None:
    listed = [(entry, _loss(found, entry)) for entry in entries(found.checkpoints)]
    if options.json:
        print_json([_document(entry, loss) for entry, loss in listed])
    elif listed:
        print(columns([HEADINGS, *(_row(entry, loss) for entry, loss in listed)]))
    else:
        print(f"{found.root.name} has no checkpoint yet", file=sys.stderr)


def _loss(found: RunDir, entry: Entry) -> float | None:
    if entry.manifest is None or entry.standing is not Standing.committed:
        return None
    return held_out_loss(found.metrics, entry.manifest.attempt, entry.step)


def _document(entry: Entry, loss: float | None) -> dict[str, Any]:
    facts = {name: getattr(entry.manifest, name, None) for name in ("world_size", "zero_stage", "dtype", "attempt")}
    about = {name: plain(getattr(entry, name)) for name in ("step", "name", "standing", "written", "size")}
    return {**about, **facts, "eval_loss": loss}


def _row(entry: Entry, loss: float | None) -> tuple[str, ...]:
    said = entry.manifest
    facts = ("–",) * 4 if said is None else (said.world_size, said.zero_stage, said.dtype, said.attempt)
    standing = "" if entry.standing is Standing.committed else entry.standing.value
    shown = "–" if loss is None else f"{loss:.4f}"
    return str(entry.step), clock(entry.written), size(entry.size), *map(str, facts), shown, standing


def _verify(found: RunDir, options: argparse.Namespace) -> None:
    steps = _steps(found, options.step)
    folders = {step: step_folder(found.checkpoints, step) for step in steps}
    complaints: dict[int, list[str]] = {}
    with reading_shown(sys.stderr, sum(_bytes(folder) for folder in folders.values())) as report:
        for step, folder in folders.items():
            complaints[step] = faults(folder, report)
    if options.json:
        print_json([{"step": step, "good": not said, "faults": said} for step, said in complaints.items()])
        sys.stdout.flush()
    else:
        for step, said in complaints.items():
            print(f"step {step}: {'; '.join(said) or 'good'}")
    bad = [str(step) for step, said in complaints.items() if said]
    if bad:
        # One document on stdout: the error's own would be a second one.
        options.json = False
        raise DoesNotHoldError(
            Problem(
                where=f"run {found.root.name}",
                message=f"of {len(steps)} checkpoints, {len(bad)} did not verify: step {', '.join(bad)}",
                remedy="a resume passes them over for the newest good one before",
            )
        )


def _steps(found: RunDir, step: int | None) -> list[int]:
    steps = committed_steps(found.checkpoints)
    if step is None and steps:
        return steps
    if step in steps:
        return [step]
    wanted = "checkpoint" if step is None else f"checkpoint at step {step}"
    raise NotFoundError(
        Problem(
            where=f"run {found.root.name}",
            message=f"there is no {wanted}",
            valid=", ".join(map(str, steps)) or "(there is none yet)",
        )
    )


def _bytes(folder: Path) -> int:
    manifest = read_manifest(folder)
    return 0 if manifest is None else sum(shard.size for shard in manifest.shards)


def _prune(found: RunDir, options: argparse.Namespace) -> None:
    def verify(folder: Path) -> list[str]:
        with reading_shown(sys.stderr, _bytes(folder)) as report:
            return faults(folder, report)

    pruned = prune(found, policy_of(found, options.keep_last), dry_run=options.dry_run, verify=verify)
    if options.json:
        print_json({**plain(pruned), "dry_run": options.dry_run})
        return
    for step, said in sorted(pruned.bad.items()):
        print(f"step {step} is damaged ({'; '.join(said)})")
    verb = "would remove" if options.dry_run else "removed"
    print(f"{verb} {_listed(pruned.removed)}; kept {_listed(pruned.kept)}")


def _listed(steps: list[int]) -> str:
    return f"step {', '.join(map(str, steps))}" if steps else "none"
