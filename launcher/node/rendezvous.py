"""Where the ranks meet: an address of the first node, and a port that is free on it. Runs on that node."""

from __future__ import annotations

import os
import re
import socket
import subprocess

LOWEST_PORT, PORTS = 16384, 16384
"""Below Linux's ephemeral range (32768 and up), so that outgoing connections never hold the port."""


def master_address() -> str:
    """An address at which the other nodes reach this one."""
    node = os.environ.get("SLURMD_NODENAME")
    if node is None:
        return "127.0.0.1"
    # Slurm's own address of the node is one that works between nodes; the host name may not resolve, and resolving
    # it here may answer loopback.
    shown = subprocess.run(["scontrol", "show", "node", node], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"\bNodeAddr=(\S+)", shown.stdout)
    return found.group(1) if found else node


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
