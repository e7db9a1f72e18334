from __future__ import annotations

import pytest

from launcher.errors import (
    ClusterError,
    DoesNotHoldError,
    ExitCode,
    LauncherError,
    NotFoundError,
    Problem,
    UserError,
    closest_first,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(UserError, 2), (NotFoundError, 3), (ClusterError, 4), (DoesNotHoldError, 5)]
)
def test_each_kind_of_error_has_the_exit_code_of_the_contract(kind: type[LauncherError], code: int) -> None:
    assert kind(Problem(where="key", message="wrong")).exit_code == code


def test_success_is_zero_and_our_bugs_are_one() -> None:
    assert (ExitCode.DONE, ExitCode.BUG) == (0, 1)


def test_an_error_names_key_fault_choices_and_remedy_of_every_problem() -> None:
    first = Problem(where="optim.lr", message="'fast' is not a number", valid="a number", remedy="write 1e-5")
    text = str(UserError(first, Problem(where="zero", message="unknown")))
    assert text.splitlines() == [
        "optim.lr: 'fast' is not a number",
        "    valid: a number",
        "    do:    write 1e-5",
        "zero: unknown",
    ]


def test_an_error_without_a_problem_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        UserError()


def test_closest_names_come_first_and_others_fill_up() -> None:
    assert closest_first("stgae", ["name", "stage", "other"]) == ["stage", "name", "other"]


def test_closest_names_stop_at_the_limit() -> None:
    names = [f"n{index}" for index in range(30)]
    assert len(closest_first("zzz", names, limit=4)) == 4
