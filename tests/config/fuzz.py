"""Configs and command lines as nobody would write them, and a watch on what a process does meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CANARY = "launcher_fuzz_canary"
"""A file that hostile values would make, were any of them run."""

HOSTILE = [
    "",
    " ",
    "~",
    "-",
    "--json",
    "two words",
    "a,b",
    "a=b",
    "a: b",
    "'",
    '"',
    "\"'\"'",
    "\\",
    "\\'",
    "%j",
    "%(x)s",
    "#SBATCH --wrap=id",
    "line\nline",
    "line\r\nline",
    "tab\there",
    "\x00",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "é漢😀",
    "../../../etc",
    "/etc/passwd",
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "',
    f"\n#SBATCH --export=ALL\ntouch {CANARY}\n",
    f"| touch {CANARY}",
    f"&& touch {CANARY}",
    "${oc.env:HOME}",
    "${oc.env:NO_SUCH_VARIABLE}",
    "${oc.create:{_target_:os.system}}",
    "${shipped:../../etc/passwd}",
    "${shipped:rewards/numbers.py}",
    "${model.path}",
    "${a.b.c}",
    "${",
    "}",
    "${hydra:runtime.cwd}",
    "$HOME",
    "${HOME}",
    "{_target_: os.system, command: touch launcher_fuzz_canary}",
    "!!python/object/apply:os.system [touch launcher_fuzz_canary]",
    "[",
    "{",
    "null",
    "true",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "99999999999999999999999999",
    "0x10",
    "1_000",
    "x" * 5000,
    "[" * 200,
]
"""Values that have broken somebody's launcher."""


def texts() -> st.SearchStrategy[str]:
    """Anything that fits on a command line, the worst of it more often than chance would have it."""
    arguments = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
    return st.sampled_from([text for text in HOSTILE if "\x00" not in text and "\ud800" not in text]) | arguments


def values() -> st.SearchStrategy[Any]:
    """What YAML can hold."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([0, 1, 2, 3, 8]) | texts()
    keys = st.sampled_from(["_target_", "_partial_", "path", "format", "name", "defaults", "weight"]) | texts()
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def overrides(keys: list[str], choices: list[str]) -> st.SearchStrategy[str]:
    """One word of a command line: often nearly right."""
    quoted = texts().map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'")
    number = st.sampled_from(["0", "1", "2", "3", "8", "-1", "1.5", "1e-5", "auto", "null", "true"])
    key = st.sampled_from(keys) | st.sampled_from(keys).map(lambda name: name[:-1]) | texts()
    assigned = st.builds(
        "{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), key, number | quoted | texts()
    )
    return assigned | assigned | st.sampled_from(choices) | st.builds("~{}".format, key) | texts()


def documents(keys: list[str], choices: list[str]) -> st.SearchStrategy[dict[Any, Any]]:
    """A recipe: the demo's, with a few keys of it set to anything."""
    base: list[Any] = ["demo", "_self_"]
    chosen = st.sampled_from([choice for choice in choices if "=" in choice]).map(
        lambda choice: {"override /" + choice.partition("=")[0]: choice.partition("=")[2]}
    )
    defaults = st.lists(chosen, max_size=2).map(lambda more: [*base, *more]) | st.just(base) | values()
    settings = st.dictionaries(st.sampled_from(keys) | texts(), values(), max_size=5).map(_nested)
    return st.builds(lambda head, rest: {"defaults": head, **rest}, defaults, settings)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        at = nested
        *parents, last = key.split(".")
        for parent in parents:
            inner = at.setdefault(parent, {})
            if not isinstance(inner, dict):
                break
            at = inner
        else:
            at[last] = value
    return nested


@dataclass(kw_only=True, slots=True)
class Watch:
    """What this process did that a planner should not."""

    on: bool = False
    """Whether it is looked at."""
    allowed: Path = Path("/nowhere")
    """Folder that may be written to."""
    seen: list[str] = field(default_factory=list)
    """Processes, connections and files."""

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (PEP 578)."""
        if not self.on:
            return
        if event in STARTS:
            self._start(event, arguments)
        elif event == "socket.connect":
            self.seen.append(f"{event} {arguments[1:]}")
        elif (event == "open" and _writes(arguments[1], arguments[2])) or event in CHANGES:
            self._write(event, arguments[0])

    def _start(self, event: str, arguments: tuple[Any, ...]) -> None:
        # A frozen run holds the commit that it was submitted from.
        command = list(arguments[1]) if event == "subprocess.Popen" else []
        if command[:1] != ["git"] or command[1] not in ("rev-parse", "diff"):
            self.seen.append(f"{event} {arguments}")

    def _write(self, event: str, path: Any) -> None:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name and name != os.devnull and "__pycache__" not in name and not Path(name).is_relative_to(self.allowed):
            self.seen.append(f"{event} {name}")


STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"}
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


def _writes(mode: str | None, flags: int | None) -> bool:
    if mode is not None:
        return any(sign in mode for sign in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


_WATCH = Watch()
_HOOKED: list[bool] = []


@contextmanager
def watched(allowed: Path) -> Iterator[Watch]:
    """What happens in the block; files below `allowed` may be made."""
    if not _HOOKED:
        # A hook stays for as long as the process lives.
        sys.addaudithook(_WATCH.hear)
        _HOOKED.append(True)
    _WATCH.allowed, _WATCH.seen, _WATCH.on = allowed, [], True
    try:
        yield _WATCH
    finally:
        _WATCH.on = False
