"""What `launcher plan RECIPE --fit` takes, against importing hydra and submitit and composing the same config.

    python -m benchmarks.plan_fit [RECIPE] [--rounds 10]

Both are new processes, in turn. Prints the medians and their ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from statistics import median

COMPOSING = """
import sys
from pathlib import Path
import hydra, submitit
from launcher.config.compose import _compose
from launcher.config.search import search_path
_compose(sys.argv[1], [], search_path(None, Path.cwd()), typed=True)
"""
"""Hydra's work alone, on the folders that it needs; what comes out is not looked at."""


def main() -> None:
    """Take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="sft_llama3_70b")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    bare = [sys.executable, "-c", COMPOSING, options.recipe]
    ours = [sys.executable, "-m", "launcher.cli.main", "plan", options.recipe, "--fit"]
    for command in (bare, ours):
        _seconds(command)
    times = [(_seconds(bare), _seconds(ours)) for _ in range(options.rounds)]
    one, other = (median(side) for side in zip(*times, strict=True))
    print(f"importing and composing {one:.2f} s, plan --fit {other:.2f} s, ratio {other / one:.2f}")


def _seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
