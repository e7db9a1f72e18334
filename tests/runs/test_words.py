"""Every event can be told, also one that another version wrote."""

from __future__ import annotations

import pytest

from launcher.runs.events import Event
from launcher.runs.words import TEXTS, duration, size, words


def test_every_event_has_words() -> None:
    assert set(TEXTS) == set(Event)


@pytest.mark.parametrize("kind", list(Event))
def test_an_event_that_lacks_its_fields_is_told_all_the_same(kind: Event) -> None:
    assert words({"event": kind.value, "attempt": 1})


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"event": "from_the_future", "attempt": 1}, "from_the_future"),
        (
            {"event": "attempt_ended", "attempt": 2, "state": "failed", "failure": "out_of_memory", "reason": "rank 0",
             "advice": "less"},
            "attempt 2 failed (out of memory): rank 0; to change: less",
        ),
        ({"event": "attempt_ended", "attempt": 1, "state": "stopped", "reason": "told"}, "attempt 1 stopped: told"),
        ({"event": "requeued", "action": "requeue_later", "excluded": ["n1", "n2"]},
         "requeued, avoiding n1, n2, after a pause"),
        ({"event": "health", "nodes": 2, "seconds": 4.2, "bandwidth_gb_s": 91.26},
         "2 nodes healthy, checked in 4 s, all-reduce at 91.3 GB/s"),
        ({"event": "health", "nodes": ["n1"], "seconds": 4.2, "bandwidth_gb_s": None}, "n1 healthy, checked in 4 s"),
        ({"event": "rolled_back", "step": 40, "first": 41, "last": 47, "reason": "loss 9.1", "file": "f.json"},
         "back to step 40, skipping the data of steps 41 to 47: loss 9.1 (samples in f.json)"),
        ({"event": "drift_noted", "names": ["a", "b"]}, "otherwise than planned, which does not matter: a, b"),
        ({"event": "converted", "step": 50, "world_size": 4, "seconds": 300},
         "checkpoint at step 50 converted for 4 ranks in 5 min"),
    ],
)  # fmt: skip
def test_an_event_is_told_as_a_person_would(event: dict[str, object], text: str) -> None:
    assert words(event) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min"), (266400, "3 d 2 h")],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3.21e9, "3.21 GB"), (2e12, "2 TB")]
)
def test_a_size_has_a_unit(count: float, text: str) -> None:
    assert size(count) == text
