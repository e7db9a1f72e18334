"""Imports point one way: read from the sources, and proved once in a real process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import launcher

PACKAGE = Path(launcher.__file__).parent
HEAVY = {"torch", "deepspeed", "transformers", "wandb"}
COMPOSING = {"hydra", "omegaconf", "submitit"}
SUBMITTING = ("cli", "config", "plan", "cluster", "runs")
TORCH_FREE = (
    "checkpoint.inventory",
    "checkpoint.copies",
    "checkpoint.lineage",
    "checkpoint.manifest",
    "checkpoint.probe",
    "checkpoint.verify",
    "checkpoint.commit",
    "checkpoint.completion",
    "checkpoint.manifest",
    "checkpoint.retain",
    "checkpoint.tidy",
    "checkpoint.unfinished",
    "data",
    "data.check",
    "data.formats",
    "data.faults",
    "data.key",
    "data.read",
    "data.source",
    "evaluate.request",
    "evaluate.scores",
    "evaluate.side_by_side",
    "evaluate.task_files",
    "evaluate.task_names",
    "models.shape",
    "measures",
    "objectives.registry",
    "track",
    "track.curves",
    "track.plot",
)
NODE_SIDE = ("node", "train", "models", "objectives", "evaluate", "checkpoint", "track")


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, without `launcher.`."""
    files = [file for file in PACKAGE.rglob("*.py") if "conf" not in file.parts and "recipes" not in file.parts]
    return {_dotted(file): file for file in files}


def _dotted(file: Path) -> str:
    parts = list(file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _statements(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if _typing_only(child) or (function and not inside_functions):
            continue
        yield child
        yield from _statements(child, inside_functions=inside_functions)


@cache
def imports(module: str, *, inside_functions: bool = False) -> frozenset[str]:
    """Names that a module imports; ours with `launcher.`, `from a import b` as both a and a.b."""
    found: set[str] = set()
    for node in _statements(ast.parse(modules()[module].read_text()), inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def reached(module: str) -> set[str]:
    """Everything that importing a module imports, through our own modules."""
    seen: set[str] = set()
    waiting = [module]
    outside: set[str] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(current):
            ours = name.removeprefix("launcher.")
            if ours in modules() and name.startswith("launcher."):
                # Importing a module imports the packages around it.
                waiting += [ours, *(ours.rsplit(".", count)[0] for count in range(1, ours.count(".") + 1))]
            outside.add(name)
    return outside


def _in(packages: tuple[str, ...]) -> list[str]:
    return [name for name in modules() if name.split(".")[0] in packages]


@pytest.mark.parametrize("module", [*_in(SUBMITTING), *TORCH_FREE])
def test_the_submitting_side_reaches_nothing_heavy_when_it_is_imported(module: str) -> None:
    assert not {name.split(".")[0] for name in reached(module)} & HEAVY


READING_VERBS = ("main", "ls", "status", "why", "logs", "cancel", "ckpt", "report", "diff", "eval")


@pytest.mark.parametrize("module", [f"cli.{verb}" for verb in READING_VERBS])
def test_verbs_that_only_read_runs_do_not_wait_for_hydra(module: str) -> None:
    assert not {name.split(".")[0] for name in reached(module)} & COMPOSING


@pytest.mark.parametrize("module", _in(NODE_SIDE))
def test_the_node_side_knows_neither_commands_nor_composing_nor_planning(module: str) -> None:
    names = imports(module, inside_functions=True) | reached(module)
    forbidden = ("launcher.cli", "launcher.plan", "launcher.config.compose", "hydra", "omegaconf")
    assert not [name for name in names if name.startswith(forbidden)]


@pytest.mark.parametrize("module", _in(SUBMITTING))
def test_a_sampler_is_waited_for_only_where_something_is_drawn(module: str) -> None:
    assert "optuna" not in {name.split(".")[0] for name in reached(module)}


def _modules_after(arguments: list[str], cwd: Path) -> set[str]:
    script = (
        "import json, sys; from launcher.cli.main import main; code = main(json.loads(sys.argv[1]));"
        "print(json.dumps([code, *sys.modules]), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=60)
    code, *names = json.loads(result.stderr.splitlines()[-1])
    assert code == 0, result.stderr
    return set(names)


def test_planning_70_billion_parameters_loads_no_torch(tmp_path: Path) -> None:
    assert not _modules_after(["plan", "sft_llama3_70b", "--json"], tmp_path) & HEAVY


def test_listing_runs_loads_no_hydra(tmp_path: Path) -> None:
    assert not _modules_after(["ls", "--json"], tmp_path) & (HEAVY | COMPOSING)
