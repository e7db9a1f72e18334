"""A workbench that the tests of this folder share: every run gets a directory of its own anyway."""

from __future__ import annotations

import pytest

from tests.workbench import Bench, make_bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    # A forked rank is done before W&B's library is imported, and nobody waits for a follower that has sent nothing yet.
    return make_bench(tmp_path_factory.mktemp("bench"), warm=False)
