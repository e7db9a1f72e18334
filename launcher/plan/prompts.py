"""The prompts of a run, read once when it is planned: the file may change while the job waits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from launcher.config.schema import Config
from launcher.errors import Problem

MOST_PROMPTS = 256
KEY = "evaluate.prompts"


def with_prompts(config: Config) -> Config | Problem:
    """The config with its prompts in place of the file that they are in, if they are in one."""
    prompts = config.evaluate.prompts
    if isinstance(prompts, str):
        try:
            prompts = _read(Path(prompts))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            valid = 'a prompt on each line, as text, or in a .jsonl as {"prompt": TEXT}'
            return Problem(where=KEY, message=f"{prompts} cannot be read ({reason})", valid=valid)
    if len(prompts) > MOST_PROMPTS:
        valid = f"at most {MOST_PROMPTS}, all of them answered at every evaluation"
        return Problem(where=KEY, message=f"there are {len(prompts)}", valid=valid)
    return replace(config, evaluate=replace(config.evaluate, prompts=list(prompts)))


def _read(path: Path) -> list[str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if path.suffix != ".jsonl":
        return lines
    rows = [json.loads(line) for line in lines]
    return [row if isinstance(row, str) else str(row["prompt"]) for row in rows]
