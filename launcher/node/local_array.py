"""Runs of a sweep on this machine: one after another, or a few at a time, each as the local job that it would be alone.

`python -m launcher.node.local_array ARRAY_DIR AT_ONCE [PROCESS …]` works in a session of its own, once those processes
are gone. A run that fails stops no other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from launcher.process_id import process_id
from launcher.publish import publish_text
from launcher.rundir import ArrayDir

POLL_S = 0.2


class LocalArray:
    """The tasks that are under way, and whether more may begin."""

    def __init__(self, array: ArrayDir, at_once: int) -> None:
        self.array, self.at_once = array, at_once
        self.running: list[subprocess.Popen[bytes]] = []
        self.told = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to every task; none is started once one has come."""
        self.told = True
        for task in self.running:
            if task.poll() is None:
                task.send_signal(number)

    def wait_for(self, processes: Sequence[str]) -> None:
        """Until all of them are gone."""
        while not self.told and any(process_id(int(one.partition(".")[0])) == one for one in processes):
            time.sleep(POLL_S)

    def run(self) -> None:
        """Start the tasks in turn, and wait for the last."""
        waiting = sorted(int(link.name) for link in self.array.tasks.iterdir())
        while waiting or self.running:
            self.running = [task for task in self.running if task.poll() is None]
            while waiting and len(self.running) < self.at_once:
                self._begin(waiting.pop(0))
            time.sleep(POLL_S)

    def _begin(self, number: int) -> None:
        run = (self.array.tasks / str(number)).resolve()
        if self.told or self.array.withdrawn(number).exists() or not run.is_dir():
            return
        environment = dict(os.environ)
        _array, *rest = environment["PYTHONPATH"].split(os.pathsep)
        # The link in its own directory, as a resume of it would have.
        environment["PYTHONPATH"] = os.pathsep.join([str(run / "code"), *rest])
        with (run / "submit" / "0001" / "local.log").open("ab") as output:
            task = subprocess.Popen(
                [sys.executable, "-m", "launcher.node.local_job", str(run)],
                cwd=run / "code",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running.append(task)
        publish_text(self.array.process(number), process_id(task.pid) or f"{task.pid}.ended")


def main(array_dir: str, at_once: str, *after: str) -> None:
    """Entry of the process."""
    os.umask(0o077)
    array = LocalArray(ArrayDir(Path(array_dir)), int(at_once))
    signal.signal(signal.SIGTERM, array.handle)
    array.wait_for(after)
    array.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
