"""What processes hold of host memory while they load, train, save, resume and export on CPUs, phase by phase.

    python -m benchmarks.host_memory [--only WORDS] [--dir DIR] [--json FILE | --measured FILE]

For each setting a run is made by the product's own functions: a model with random weights is written, ranks load it,
take steps, save and wait, save without waiting and take steps beside it; fresh ranks resume, as many and then, if the
setting says so, another number of them; the last checkpoint is exported. Measured is the most anonymous memory
(RssAnon, looked at every few milliseconds) of any rank in each phase: the kernel takes pages of mapped files back when
memory is short, so only what is anonymous can end a job. Predicted is the plan's estimate beside what processes hold
of their own, which a model of next to no size shows in the same phases. Prints a line for each setting and phase, and
the median and the largest error. With `--measured`, what was measured before (benchmarks/measured/host_cpu.json) is
held against the estimates of today.
Needs the demo's data (`make setup`, or LAUNCHER_DEMO_DATA), and up to 8 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.alone import join, own_plan, planned, start_ranks, stepper
from launcher.config.compose import compose
from launcher.config.search import search_path
from launcher.models.heap import give_back
from launcher.models.shape import shape_of
from launcher.plain import plain
from launcher.plan.processes import host_memory
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.freeze import freeze

PHASES, MODE = "BENCHMARK_PHASES", "BENCHMARK_MODE"
EVERY_S = 0.005
STEPS, LENGTH = 2, 64
SEEN = {
    "loading": ("first load",),
    "training": ("first train1",),
    "saving": ("first save",),
    "copied": ("first copy",),
    "beside": ("first beside",),
    "resuming": ("again load", "again resume"),
    "resuming by others": ("other load", "other resume"),
    "exporting": ("export export",),
}
"""What each estimate is held against."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One run."""

    width: int
    """Of the model."""
    layers: int
    """Its blocks."""
    words: int
    """Its vocabulary."""
    stage: int
    """ZeRO."""
    ranks: int
    """Processes."""
    dtype: str
    """Compute precision, and that of the files."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.width} × {self.layers}, ZeRO {self.stage}, {self.ranks} × {self.dtype}"


def grid() -> list[Setting]:
    """The settings: 58, 125 and 267 million parameters."""
    rows: list[tuple[Any, ...]] = [
        *((512, 6, stage, ranks, dtype) for dtype in ("bf16", "fp32") for ranks in (1, 2) for stage in (1, 2, 3)),
        *((768, 8, stage, 1, "bf16") for stage in (1, 2, 3)),
        (768, 8, 3, 2, "bf16"),
        (768, 8, 2, 2, "fp32"),
        *((1024, 12, stage, 2, "bf16") for stage in (2, 3)),
    ]
    names = ("width", "layers", "stage", "ranks", "dtype")
    return [Setting(words=32000, **dict(zip(names, row, strict=True))) for row in rows]


OWN = Setting(width=64, layers=1, words=5000, stage=2, ranks=2, dtype="bf16")
"""Next to nothing but the processes themselves."""


def main() -> int:
    """Each setting in turn."""
    plan = own_plan()
    if plan is not None:
        work(plan)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="settings whose name has these words")
    parser.add_argument("--dir", type=Path, help="where models and checkpoints go")
    parser.add_argument("--json", type=Path, help="keep what was found there; what it has is not measured again")
    parser.add_argument("--measured", type=Path, help="measure nothing: take what was kept there")
    options = parser.parse_args()
    source = options.measured or options.json
    found: dict[str, dict[str, float]] = json.loads(source.read_text()) if source and source.exists() else {}
    errors = []
    for setting in (OWN, *(one for one in grid() if options.only in one.name)):
        if setting.name not in found:
            if options.measured is not None:
                continue
            found[setting.name] = _measured(setting, options.dir)
        if setting is not OWN:
            errors += _told(setting, found)
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(errors)} phases: error {median(errors):.1%} in the median, {max(errors):.1%} at most")
    return 0


def _told(setting: Setting, found: dict[str, dict[str, float]]) -> list[float]:
    """The errors of all phases, once these have been told of."""
    own, errors = found[OWN.name], []
    for phase, seen in seen_in(found[setting.name]).items():
        beside = seen_in(own)[phase if phase in seen_in(own) else "resuming"] - predicted(OWN)[phase] / 1e9
        expected = predicted(setting)[phase] / 1e9 + beside
        errors.append(abs(expected / seen - 1))
        print(f"{setting.name}, {phase}: {seen:.2f} GB, predicted {expected:.2f}, {expected / seen - 1:+.1%}")
    return errors


def seen_in(peaks: dict[str, float]) -> dict[str, float]:
    """GB, by what is estimated."""
    told = {phase: [peaks[name] for name in names if name in peaks] for phase, names in SEEN.items()}
    return {phase: max(values) for phase, values in told.items() if values}


def predicted(setting: Setting) -> dict[str, float]:
    """Bytes, by the plan's estimate."""
    composed = compose("demo", overrides(setting), search_path(None, Path.cwd()))
    assert composed.config is not None, composed.problems
    estimate = host_memory(composed.config, shape_of(model(setting)), setting.ranks, 1)
    told = plain(estimate)
    others = replace(setting, ranks=3 - setting.ranks)
    resuming = host_memory(composed.config, shape_of(model(setting)), others.ranks, 1).resuming
    return {**told, "resuming by others": resuming}


def overrides(setting: Setting) -> list[str]:
    """How the setting is asked for, but for the files."""
    return [
        "model.init=pretrained",
        f"zero=zero{setting.stage}",
        f"precision={setting.dtype}",
        f"data.seq_len={LENGTH}",
        "data.overlong=truncate_right",
        "train.global_batch_size=2",
        "train.micro_batch_size=1",
        "checkpoint.keep_last=1",
        "cluster.accelerator=cpu",
    ]


def model(setting: Setting) -> dict[str, Any]:
    """A model's config."""
    heads = max(1, setting.width // 64)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": setting.width,
        "num_hidden_layers": setting.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": 64,
        "intermediate_size": 4 * setting.width,
        "vocab_size": setting.words,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
    }


def write_model(setting: Setting, folder: Path) -> None:
    """Random weights in a file, written by a process of its own."""
    demo = Path(os.environ.get("LAUNCHER_DEMO_DATA", "demo_data")) / "model"
    folder.mkdir()
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(model(setting)))
    program = (
        "import sys, torch; from transformers import AutoConfig, AutoModelForCausalLM as M;"
        "M.from_config(AutoConfig.from_pretrained(sys.argv[1]), dtype=getattr(torch, sys.argv[2]))"
        ".save_pretrained(sys.argv[1])"
    )
    kind = {"bf16": "bfloat16", "fp32": "float32"}[setting.dtype]
    subprocess.run([sys.executable, "-c", program, folder, kind], check=True)


def _measured(setting: Setting, where: Path | None) -> dict[str, float]:
    """Most anonymous GB of any rank, by what it was asked to do and the phase."""
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        write_model(setting, folder / "model")
        own = [f"model.path={folder}/model", *overrides(setting)]
        plan = planned(folder, setting.ranks, own)
        run = freeze(plan, [])
        run.attempt(1).root.mkdir()
        found = watched(plan, folder, "first") | watched(plan, folder, "again")
        alone = replace(plan, topology=replace(plan.topology, ranks_per_node=1))
        found |= watched(alone, folder, "export")
        if setting.stage == 2:
            other = planned(folder, 3 - setting.ranks, own)
            other = replace(other, run_id=plan.run_id, run_dir=plan.run_dir)
            other.write(run.plan)
            found |= watched(alone, folder, "convert") | watched(other, folder, "other")
    return found


def watched(plan: RunPlan, folder: Path, mode: str) -> dict[str, float]:
    """The same of ranks that do `mode`."""
    told = Path(tempfile.mkdtemp(dir=folder))
    processes = start_ranks(plan, folder, **{PHASES: str(told), MODE: mode})
    peaks: dict[str, float] = defaultdict(float)
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY_S):
            for file in told.glob("[0-9]*"):
                # A process may go between two looks.
                with suppress(OSError, ValueError, KeyError):
                    pid, name = file.read_text().split()
                    peaks[f"{mode} {name}"] = max(peaks[f"{mode} {name}"], round(anonymous(int(pid)) / 1e9, 4))

    watcher = threading.Thread(target=look)
    watcher.start()
    status = [process.wait() for process in processes]
    over.set()
    watcher.join()
    assert not any(status), f"{mode}: {status}"
    return dict(peaks)


def anonymous(pid: int) -> int:
    """Anonymous bytes of a process and those that it has started; shared pages count once."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    if children:
        # What is shared is told apart only here, which takes the kernel some milliseconds.
        return sum(_bytes(Path(f"/proc/{one}/smaps_rollup"), "Pss_Anon:") for one in (pid, *children))
    return _bytes(Path(f"/proc/{pid}/status"), "RssAnon:")


def _bytes(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    # One that has ended has no such line.
    return next((1024 * int(words[1]) for words in lines if words[0] == name), 0)


def phase(name: str) -> None:
    """Say what comes now."""
    file = Path(os.environ[PHASES]) / os.environ["RANK"]
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(f"{os.getpid()} {name}")
    temporary.rename(file)


def work(plan: RunPlan) -> None:
    """One rank."""
    ranks, device = join(plan)
    import launcher.checkpoint.export
    import launcher.train.engine
    import launcher.train.run

    run, mode = RunDir(Path(plan.run_dir)), os.environ[MODE]
    _rest("base")
    if mode == "convert":
        from launcher.checkpoint.universal import convert_newest

        phase("convert")
        convert_newest(run.checkpoints, RunPlan.load(run.plan).topology.world_size)
    elif mode == "export":
        phase("export")
        launcher.checkpoint.export.export(run, None, None, None, print, adapter=False)
    else:
        _train(plan, run, ranks, device, first=mode == "first")
    sys.stdout.flush()
    os._exit(0)


def _train(plan: RunPlan, run: RunDir, ranks: Any, device: Any, *, first: bool) -> None:
    """Load, or resume, and take steps; the first time, save."""
    from launcher.checkpoint.resume import load_all
    from launcher.checkpoint.save import Position
    from launcher.train.engine import build_engine, build_saver, choose_checkpoint_all

    data = Path(os.environ["LAUNCHER_TRAIN_TOKENS"]).name
    chosen = choose_checkpoint_all(plan, run, ranks, data=data)
    phase("load")
    engine = build_engine(plan, device, chosen)
    saver = build_saver(plan, run, engine, ranks, data=data)
    if chosen is not None:
        phase("resume")
        load_all(engine, chosen)
    _rest("loaded")
    micro_step = stepper(plan, engine, ranks, device)

    def step() -> None:
        for _ in range(plan.batch.accumulation):
            micro_step()

    for number in range(STEPS):
        phase(f"train{number}")
        step()
    if first:
        _rest("between")
        # As a save begins: what the step has left counts with the step.
        give_back()
        _rest("save")
        saver.save_all(Position(step=1, total_steps=9, tokens=0), wait=True)
        phase("saved")
        step()
        phase("copy")
        saver.save_all(Position(step=2, total_steps=9, tokens=0), wait=False)
        phase("beside")
        step()
        saver.finish_all()


def _rest(name: str) -> None:
    """A phase in which nothing happens, long enough to be seen."""
    phase(name)
    time.sleep(20 * EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
