"""A workbench that the tests of this folder share: every run gets a directory of its own anyway."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.workbench import Bench, make_bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def started(bench: Bench) -> Bench:
    """The same, whose processes are interpreters that begin with nothing."""
    return replace(bench, warm=False)
