"""A checkpoint becomes loadable by any number of ranks: DeepSpeed's ds_to_universal, verified before and after.

`python -m launcher.checkpoint.universal RUN_DIR` converts for the world size of the run's plan, before its ranks
start. Nothing is converted that does not verify, and what is published is whole, synced and hashed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launcher.checkpoint.copies import loads_directly, read_universal, remove_universal, universal_folder
from launcher.checkpoint.manifest import Manifest, Shard, committed_steps, fault, read_manifest, step_folder
from launcher.digest import file_sha256
from launcher.publish import publish_dir, sync_dir
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

MOST_WORKERS = 16
"""Processes of one conversion: each streams one rank's shard, and shared file systems gain little from more."""
TEMPORARY = ".universal."


def convert_newest(checkpoints: Path, world_size: int) -> Path | None:
    """The universal copy of the newest good checkpoint, made unless it is there; None where none is needed.

    A checkpoint whose content is not as its manifest says is passed over; the ranks tell why, as of any other.
    """
    for leftover in checkpoints.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover)
    for step in reversed(committed_steps(checkpoints)):
        manifest = read_manifest(step_folder(checkpoints, step))
        if manifest is None:
            continue
        if loads_directly(manifest, world_size):
            return None
        folder = universal_folder(checkpoints, step)
        copy = read_universal(checkpoints, manifest)
        if copy is not None and _first_fault(folder, copy) is None:
            return folder
        found = _first_fault(step_folder(checkpoints, step), manifest)
        if found is None:
            return _convert(checkpoints, manifest)
        print(f"the checkpoint at step {step} is not converted: {found}", flush=True)
    return None


def _first_fault(folder: Path, manifest: Manifest) -> str | None:
    with ThreadPoolExecutor(_workers()) as pool:
        faults = pool.map(lambda shard: fault(folder, shard, content=True), manifest.shards)
        return next((found for found in faults if found is not None), None)


def _workers() -> int:
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def _convert(checkpoints: Path, manifest: Manifest) -> Path:
    size_gb = sum(shard.size for shard in manifest.shards) / 1e9
    print(f"converting the checkpoint at step {manifest.step}: {manifest.world_size} ranks, {size_gb:.2f} GB")
    began = time.monotonic()
    final = universal_folder(checkpoints, manifest.step)
    # DeepSpeed writes `latest_universal` beside its output: a folder above keeps it among what is thrown away.
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=checkpoints))
    try:
        out = temporary / final.name
        out.mkdir()
        with _working_in(checkpoints):
            _run_deepspeed(step_folder(Path(), manifest.step), out.relative_to(checkpoints), manifest)
        replace(manifest, shards=_seal(out)).write(out)
        remove_universal(checkpoints, manifest.step)
        publish_dir(out, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"converted in {time.monotonic() - began:.1f} s: {final}", flush=True)
    return final


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Relative paths for DeepSpeed, which takes paths for patterns: a `+` or `[` above the run would mislead it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _run_deepspeed(source: Path, out: Path, manifest: Manifest) -> None:
    # Nothing here needs a GPU. And no torch.load may run code, those inside DeepSpeed's worker processes included.
    os.environ |= {"DS_ACCELERATOR": "cpu", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    from deepspeed.checkpoint import ds_to_universal

    from launcher.checkpoint.safe_load import mapped_files, safe_types
    from launcher.checkpoint.states import carry

    workers = _workers()
    arguments = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(out),
        num_extract_workers=min(workers, manifest.world_size),
        # Each holds a whole parameter twice.
        num_merge_workers=max(1, workers // 2),
        keep_temp_folder=False,
        strict=True,
        # Otherwise it wants Megatron's description of tensor parallelism, at stages 1 and 2.
        inject_missing_state=True,
    )
    with safe_types(), mapped_files():
        ds_to_universal.main(arguments)
    carry(source, out, manifest, max(1, workers // 2))


def _seal(folder: Path) -> list[Shard]:
    """Sync and hash every file; the ranks share the later checks by each file's number."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_workers()) as pool:
        hashes = list(pool.map(_sync_and_hash, paths))
    for directory in (path for path in folder.rglob("*") if path.is_dir()):
        sync_dir(directory)
    return [
        Shard(name=str(path.relative_to(folder)), size=path.stat().st_size, sha256=sha256, rank=number)
        for number, (path, sha256) in enumerate(zip(paths, hashes, strict=True))
    ]


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return file_sha256(path)


def main(run_dir: str) -> None:
    """Convert as the run's plan needs; the last line on stderr says why it could not be done."""
    os.umask(0o077)
    # Workers inherit which classes a checkpoint may hold.
    multiprocessing.set_start_method("fork")
    run = RunDir(Path(run_dir))
    try:
        convert_newest(run.checkpoints, RunPlan.load(run.plan).topology.world_size)
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
