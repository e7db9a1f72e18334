"""`launcher doctor [PROFILE]`: what Slurm says of a cluster, and whether a profile fits it; writes a first one."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cli.ls import columns
from launcher.cli.options import json_argument, print_json, runs_root
from launcher.cluster.checks import associations, check
from launcher.cluster.draft import Draft, draft
from launcher.cluster.facts import Facts, ask
from launcher.cluster.findings import Finding, Level
from launcher.cluster.here import folders, tools
from launcher.cluster.outside import outside, tokens
from launcher.config.cluster import ClusterConfig, ClusterKind
from launcher.config.cluster_rules import cluster_problems
from launcher.config.compose import compose_profile
from launcher.config.search import SearchPath, search_path
from launcher.config.survival import HealthConfig
from launcher.decode import BROKEN, read
from launcher.errors import ExitCode, Problem, UserError
from launcher.plain import plain
from launcher.plan.paths import check_site, located
from launcher.publish import publish_text

HEADINGS = ("PARTITION", "UP", "NODES", "GPUS A NODE", "LONGEST", "FEATURES")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("overrides", nargs="*", metavar="PROFILE", help="a profile's name, and cluster.KEY=VALUE")
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="conf/ of your own, searched before the shipped one"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a first profile (conf/cluster/NAME.yaml)")
    parser.add_argument("--partition", metavar="NAME", help="the partition that a first profile is for")
    parser.add_argument(
        "--job", action="store_true", help="also run a small job, and measure what is between its nodes"
    )
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes of that job (2)")
    parser.add_argument("--wait-min", type=float, default=15, metavar="N", help="minutes to wait for it (15)")
    json_argument(parser)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Profile:
    """What is looked at."""

    name: str
    """How to call it."""
    cluster: ClusterConfig | None
    """The profile; None where a person must fill it in first."""
    health: HealthConfig
    """What nodes are held to."""
    findings: list[Finding]
    """What is wrong with the profile by itself."""


def run(options: argparse.Namespace) -> ExitCode:
    """Look, tell, and say by the exit code whether all of it holds."""
    _require_sense(options)
    words = [word if "=" in word else f"cluster={word}" for word in options.overrides]
    search = search_path(options.config_dir, Path.cwd())
    named = next((word.partition("=")[2] for word in words if word.startswith("cluster=")), None)
    if named is None:
        return _first(options, words, search)
    cluster, health = compose_profile(words, search)
    problems = [*cluster_problems(cluster), *check_site(located(cluster, Path.cwd()))]
    if problems:
        raise UserError(*problems)
    profile = _Profile(name=named, cluster=located(cluster, Path.cwd()), health=health, findings=[])
    if cluster.kind is ClusterKind.local and options.job:
        remedy = "name a profile of a Slurm cluster"
        raise UserError(Problem(where="--job", message="there are no nodes with cluster.kind=local", remedy=remedy))
    facts = None if cluster.kind is ClusterKind.local else ask()
    return _told(options, facts, profile, None)


def _require_sense(options: argparse.Namespace) -> None:
    problems = []
    if options.nodes < 1:
        problems.append(Problem(where="--nodes", message=f"{options.nodes} is out of range", valid="1 or more"))
    if options.wait_min <= 0:
        problems.append(
            Problem(where="--wait-min", message=f"{options.wait_min:g} is out of range", valid="more than 0")
        )
    named = any("=" not in word or word.startswith("cluster=") for word in options.overrides)
    for flag, value in (("--write", options.write), ("--partition", options.partition)):
        if value is not None and named:
            message = "this is for a first profile, and a profile is named"
            problems.append(Problem(where=flag, message=message, remedy="leave one of the two out"))
    if options.write is not None and options.write.suffix != ".yaml":
        remedy = f"write --write {options.write.with_suffix('.yaml')}"
        problems.append(Problem(where="--write", message=f"{options.write} is no YAML file", remedy=remedy))
    if options.write is not None and options.write.exists():
        remedy = "remove it first, or take another name"
        problems.append(Problem(where="--write", message=f"{options.write} is there already", remedy=remedy))
    if problems:
        raise UserError(*problems)


def _first(options: argparse.Namespace, words: list[str], search: SearchPath) -> ExitCode:
    """A first profile, looked at as any other."""
    base, health = compose_profile(["cluster=slurm", *words], search)
    facts = ask()
    made = draft(facts, base, partition=options.partition, associations=associations(getpass.getuser()))
    if options.write is not None:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        publish_text(options.write, made.text(facts))
    problems: list[Problem] = []
    cluster = read(ClusterConfig, _merged(plain(base), made.values), "cluster", problems)
    # What is open is among the draft's own findings.
    usable = None if cluster is BROKEN else located(cluster, Path.cwd())
    name = options.write.stem if options.write is not None else "NAME"
    return _told(options, facts, _Profile(name=name, cluster=usable, health=health, findings=made.findings), made)


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {**values, **{key: {**values[key], **new} if isinstance(new, dict) else new for key, new in changes.items()}}


def _told(options: argparse.Namespace, facts: Facts | None, profile: _Profile, made: Draft | None) -> ExitCode:
    """Print what was found; the exit code."""
    shown = not options.json
    if shown and facts is not None:
        print(columns([HEADINGS, *_rows(facts)]) + "\n")
    if shown and made is not None and facts is not None:
        print(made.text(facts))
    findings: list[Finding] = []

    def tell(found: Finding) -> None:
        findings.append(found)
        if shown:
            remedy = f"\n        do: {found.remedy}" if found.remedy else ""
            print(f"{found.level.value:<8}{found.what}{remedy}", flush=True)

    document = _examined(options, facts, profile, tell)
    holds = not any(found.level is Level.fault for found in findings)
    if options.json:
        print_json(
            {
                "cluster": None if facts is None else facts.cluster,
                "slurm": None if facts is None else facts.version,
                "profile": profile.name,
                "written": None if options.write is None else str(options.write),
                "values": None if made is None else made.values,
                "partitions": [] if facts is None else [_partition(one) for one in facts.partitions],
                "findings": [plain(found) for found in findings],
                "job": document,
                "holds": holds,
            }
        )
    else:
        _advise(options, made, profile)
    return ExitCode.DONE if holds else ExitCode.DOES_NOT_HOLD


def _examined(options: argparse.Namespace, facts: Facts | None, profile: _Profile, tell: Any) -> dict[str, Any] | None:
    """Every check, told as it comes; the job's own words."""
    for found in profile.findings:
        tell(found)
    cluster, root = profile.cluster, runs_root(options)
    if cluster is None:
        return None
    variables = {**os.environ, **cluster.variables}
    looks = [] if facts is None else [check(facts, cluster, root), tools(cluster)]
    for look in (*looks, folders(cluster, root, profile.health), tokens(variables), outside(variables)):
        for found in look:
            tell(found)
    if not options.job or facts is None:
        return None
    from launcher.runs.check_job import check_job

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    wait_s = 60 * options.wait_min
    results, document = check_job(cluster, profile.health, root, nodes=options.nodes, wait_s=wait_s, say=say)
    for found in results:
        tell(found)
    return document


def _advise(options: argparse.Namespace, made: Draft | None, profile: _Profile) -> None:
    if made is None:
        return
    if options.write is None:
        print(
            "\nnothing was written; `launcher doctor --write conf/cluster/NAME.yaml` keeps the profile", file=sys.stderr
        )
    else:
        print(f"\nwrote {options.write}; use it with cluster={profile.name}", file=sys.stderr)


def _rows(facts: Facts) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in facts.partitions:
        kinds = {f"{count} {kind}".strip() for node in one.nodes for kind, count in node.gpus.items()}
        features = sorted({feature for node in one.nodes for feature in node.features})
        limit = "no limit" if one.max_time_min is None else f"{one.max_time_min} min"
        name = f"{one.name} (default)" if one.default else one.name
        usable = sum(node.usable for node in one.nodes)
        rows.append(
            (
                name,
                "yes" if one.up else "no",
                f"{usable} of {len(one.nodes)}",
                ", ".join(sorted(kinds)) or "–",
                limit,
                ",".join(features[:6]) or "–",
            )
        )
    return rows


def _partition(one: Any) -> dict[str, Any]:
    """A partition without its machines one by one: there may be thousands."""
    values: dict[str, Any] = plain({name: getattr(one, name) for name in ("name", "default", "up", "max_time_min")})
    gpus: dict[str, int] = {}
    for node in one.nodes:
        for kind, count in node.gpus.items():
            gpus[kind] = gpus.get(kind, 0) + count
    usable = sum(node.usable for node in one.nodes)
    return {**values, "max_nodes": one.max_nodes, "nodes": len(one.nodes), "usable_nodes": usable, "gpus": gpus}
