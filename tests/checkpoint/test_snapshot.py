"""A copy saves to the bytes of its original, whatever training does to the original meanwhile."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest
import torch

from launcher.checkpoint.snapshot import HostBuffers, snapshot


class Scaler:
    """An object that training goes on changing."""

    def __init__(self) -> None:
        self.scale = 4.0


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def states() -> dict[str, Any]:
    torch.manual_seed(1)
    tied, flat, shared = torch.randn(8, 4), torch.randn(100), [1, 2]
    parameter = torch.nn.Parameter(torch.randn(3))
    marked = torch.randn(2)
    marked.label = "fc"  # type: ignore[attr-defined]
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert "_metadata" in vars(module)
    return {
        "tied": {"embedding": tied, "head": tied, "row": tied[2], "turned": tied.T},
        "part of a storage": {"first": flat[:10], "strided": flat[::3]},
        "module": module,
        "parameters": [parameter, torch.nn.Parameter(torch.ones(2), requires_grad=False)],
        "kinds": (torch.arange(3), torch.tensor(2.5), torch.empty(0, 4), torch.ones(5, dtype=torch.bfloat16)),
        "bytes": torch.get_rng_state(),
        "nested": OrderedDict(a=[{"b": (torch.ones(2), None, "x", 1.5, torch.Size([2]), torch.float16)}]),
        "same object twice": [shared, shared],
        "with attributes": marked,
        "requires grad": torch.randn(3, requires_grad=True),
    }


@pytest.mark.parametrize("name", states())
def test_a_copy_saves_to_the_bytes_of_its_original(name: str) -> None:
    state = states()[name]
    assert saved(snapshot(state, HostBuffers())) == saved(state)


def test_a_whole_state_saves_to_the_bytes_of_its_original() -> None:
    assert saved(snapshot(states(), HostBuffers())) == saved(states())


def test_tensors_of_a_kind_of_their_own_are_copied_too() -> None:
    conjugate, sparse = torch.randn(4, dtype=torch.complex64).conj(), torch.eye(3).to_sparse()
    wanted = conjugate.clone()
    copied = snapshot([conjugate, sparse], HostBuffers())
    conjugate.zero_()
    sparse.zero_()
    assert torch.equal(copied[0], wanted)
    assert torch.equal(copied[1].to_dense(), torch.eye(3))


def test_what_training_changes_afterwards_does_not_reach_the_copy() -> None:
    state = {**states(), "scaler": Scaler()}
    before = saved(states())
    copied = snapshot(state, HostBuffers())
    with torch.no_grad():
        state["tied"]["embedding"].zero_()
        state["part of a storage"]["first"].zero_()
        state["parameters"][0].zero_()
    state["same object twice"][0].append(3)
    state["nested"]["a"].clear()
    state["scaler"].scale = 1.0
    assert copied.pop("scaler").scale == 4.0
    assert saved(copied) == before


def test_memory_is_reused_from_save_to_save_and_let_go_when_nobody_wants_it() -> None:
    buffers = HostBuffers()
    addresses = []
    for _ in range(3):
        copied = snapshot({"a": torch.ones(1000), "b": torch.ones(1000), "c": torch.ones(10)}, buffers)
        addresses.append({tensor.data_ptr() for tensor in copied.values()})
        buffers.give_back()
    assert addresses[0] == addresses[1] == addresses[2]
    assert len(addresses[0]) == 3
    snapshot([torch.ones(10)], buffers)
    buffers.give_back()
    assert sum(map(len, buffers._free.values())) == 1


def test_buffers_in_use_are_not_handed_out_again() -> None:
    buffers = HostBuffers()
    first = snapshot([torch.ones(50)], buffers)
    second = snapshot([torch.zeros(50)], buffers)
    assert first[0].sum() == 50
    assert second[0].sum() == 0
