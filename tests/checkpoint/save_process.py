"""One rank of a save without torch: `python -m tests.checkpoint.save_process RUN STEP ATTEMPT RANK RANKS [FAULTY]`.

Ends with 0 when the rank has done its part (on rank 0: committed), 3 when the save failed. FAULTY is a rank that
cannot write.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from launcher.checkpoint.completion import Completion, Save
from launcher.checkpoint.manifest import Shard
from launcher.checkpoint.retain import Policy
from launcher.checkpoint.unfinished import begin, unfinished_folder
from launcher.faultpoints import Point, reach
from launcher.rundir import RunDir
from tests.checkpoint.folders import draft, write_shard


def main(root: str, *numbers: str) -> int:
    """One save, as this rank."""
    step, attempt, rank, world_size, *faulty = map(int, numbers)
    run = RunDir(Path(root))
    folder = unfinished_folder(run.checkpoints, step, attempt)

    def take() -> tuple[list[Shard], str | None]:
        if rank in faulty:
            return [], "no room (injected)"
        content = f"weights of rank {rank} after step {step}".encode()
        write_shard(folder, f"rank-{rank}.pt", content[:9], rank)
        reach(Point.save_writing, rank=rank, step=step)
        return [write_shard(folder, f"rank-{rank}.pt", content, rank)], None

    save = Save(
        folder=folder,
        draft=draft(step, attempt=attempt, world_size=world_size),
        started=time.monotonic(),
        stalled_s=0.0,
    )
    if rank == 0:
        begin(folder, save.draft)
    while not (folder / "position.json").exists():
        time.sleep(0.005)
    # A rank that was killed tells nothing; in training, its peers end with it.
    timer = threading.Timer(2.0, save.hopeless.set)
    timer.daemon = True
    timer.start()
    Completion(run, Policy(last=2), rank=rank, take=take).complete(save)
    return 3 if save.failure or save.untold else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
