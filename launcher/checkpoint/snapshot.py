"""A state dict copied into host memory, so that training may go on while the copy is written.

Owns the host buffers and the walk over the state. Knows neither files nor DeepSpeed. A copy saves to the same bytes as
its original: tensors that share a storage share one in the copy, and an object that is met twice is copied once.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from typing import Any

import torch
from torch import UntypedStorage

AS_THEY_ARE = (str, bytes, int, float, complex, bool, type(None), type, torch.Size, torch.dtype)
"""Nothing can change these behind the copy."""


class HostBuffers:
    """Host memory that is kept from save to save: only the first one takes page faults, or pins."""

    def __init__(self) -> None:
        self._free: defaultdict[tuple[int, bool], list[UntypedStorage]] = defaultdict(list)
        self._used: list[tuple[tuple[int, bool], UntypedStorage]] = []

    def take(self, size: int, *, pinned: bool) -> UntypedStorage:
        """A buffer of `size` bytes; MemoryError or RuntimeError where the host has no more."""
        kind = (size, pinned)
        buffer = self._free[kind].pop() if self._free[kind] else _allocate(size, pinned=pinned)
        self._used.append((kind, buffer))
        return buffer

    def give_back(self) -> None:
        """Everything taken is free again; what no copy since the last call wanted is let go."""
        self._free.clear()
        for kind, buffer in self._used:
            self._free[kind].append(buffer)
        self._used.clear()


def _allocate(size: int, *, pinned: bool) -> UntypedStorage:
    if pinned:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True).untyped_storage()
        except RuntimeError:
            # The limit of locked memory, most likely; ordinary memory is slower to copy into, and as good.
            pass
    return torch.empty(size, dtype=torch.uint8).untyped_storage()


def snapshot(state: Any, buffers: HostBuffers) -> Any:
    """A copy of `state` in host memory, complete on return. MemoryError or RuntimeError where the host has no more."""
    walk = _Walk(buffers)
    with torch.no_grad():
        copied = walk.copy(state)
    walk.synchronise()
    return copied


class _Walk:
    """One pass over a state."""

    def __init__(self, buffers: HostBuffers) -> None:
        self._buffers = buffers
        self._storages: dict[int, UntypedStorage] = {}
        self._memo: dict[int, Any] = {}
        # An id belongs to somebody else once its object is gone.
        self._alive: list[Any] = []
        self._devices: set[torch.device] = set()

    def copy(self, value: Any) -> Any:
        """The copy of any value, the same one each time."""
        if isinstance(value, AS_THEY_ARE):
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        self._alive.append(value)
        copied = self._copy(value)
        self._memo[id(value)] = copied
        return copied

    def synchronise(self) -> None:
        """Wait for copies that devices still have in hand."""
        for device in self._devices:
            torch.cuda.current_stream(device).synchronize()

    def _copy(self, value: Any) -> Any:
        if type(value) in (dict, OrderedDict):
            return self._mapping(value)
        if type(value) is list:
            copied: list[Any] = []
            self._memo[id(value)] = copied
            copied += [self.copy(item) for item in value]
            return copied
        if type(value) is tuple:
            return tuple(self.copy(item) for item in value)
        if type(value) in (torch.Tensor, torch.nn.Parameter) and _is_plain(value):
            return self._tensor(value)
        # Objects that training goes on changing (a loss scaler), and tensors of kinds of their own.
        return copy.deepcopy(value, self._memo)

    def _mapping(self, value: dict[Any, Any]) -> dict[Any, Any]:
        copied = type(value)()
        self._memo[id(value)] = copied
        copied.update((self.copy(key), self.copy(item)) for key, item in value.items())
        # A module's state dict carries its version numbers in an attribute, which is saved with it.
        getattr(copied, "__dict__", {}).update(getattr(value, "__dict__", {}))
        return copied

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = self._storage(tensor.untyped_storage())
        copied = torch.empty(0, dtype=tensor.dtype)
        copied.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        if isinstance(tensor, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
        copied.requires_grad_(tensor.requires_grad)
        copied.__dict__.update({name: self.copy(item) for name, item in vars(tensor).items()})
        return copied

    def _storage(self, source: UntypedStorage) -> UntypedStorage:
        """The whole storage, once: torch.save writes it whole, however little of it a tensor shows."""
        known = self._storages.get(source._cdata)
        if known is not None:
            return known
        on_gpu = source.device.type == "cuda"
        target = self._storages[source._cdata] = self._buffers.take(source.nbytes(), pinned=on_gpu)
        if source.nbytes():
            _bytes_of(target).copy_(_bytes_of(source), non_blocking=on_gpu)
        if on_gpu:
            self._devices.add(source.device)
        return target


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether shape, strides and a storage say everything about it."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return False
    return not (tensor.is_conj() or tensor.is_neg())


def _bytes_of(storage: UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
