"""Jobs on one node find ports of their own."""

from __future__ import annotations

import socket

from launcher.node.rendezvous import LOWEST_PORT, PORTS, job_number, master_port


def test_the_job_decides_the_port_and_a_taken_one_is_passed_over() -> None:
    port = master_port(123456)
    assert LOWEST_PORT <= port < LOWEST_PORT + PORTS
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        other = master_port(123456)
    assert other != port
    assert master_port(123456) == port


def test_a_job_a_task_of_an_array_and_a_process_each_have_a_number() -> None:
    assert [job_number(job_id) for job_id in ("123", "123_4", "4711.99")] == [123, 127, 4711]
