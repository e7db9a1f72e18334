"""Where the ranks meet: an address of the first node, and a port that is free on it. Runs on that node.

`python -m launcher.node.rendezvous` prints it as `export` lines.
"""

from __future__ import annotations

import os
import shlex
import socket

from launcher.slurm_commands import node_address

LOWEST_PORT, PORTS = 16384, 16384
"""Below Linux's ephemeral range (32768 and up), so that outgoing connections never hold the port."""


def master_address() -> str:
    """An address at which the other nodes reach this one."""
    node = os.environ.get("SLURMD_NODENAME")
    return "127.0.0.1" if node is None else node_address(node)


def job_number(job_id: str) -> int:
    """A number for `master_port` from Slurm's JOB, its ARRAY_TASK or this machine's PID.START."""
    job, _, task = job_id.partition(".")[0].partition("_")
    return int(job) + int(task or 0)


def master_port(job_number: int) -> int:
    """A free port, the first candidate decided by the job, so that jobs sharing a node seldom try the same."""
    for shift in range(PORTS):
        port = LOWEST_PORT + (job_number * 7 + shift) % PORTS
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port from {LOWEST_PORT} to {LOWEST_PORT + PORTS - 1} is free on {socket.gethostname()}")


def meeting_point(job_number: int) -> dict[str, str]:
    """The two variables that torch.distributed reads."""
    return {"MASTER_ADDR": master_address(), "MASTER_PORT": str(master_port(job_number))}


if __name__ == "__main__":
    for name, value in meeting_point(int(os.environ["SLURM_JOB_ID"])).items():
        print(f"export {name}={shlex.quote(value)}")
