"""A weight that lies across the ranks' parts of a vector is joined whole."""

from __future__ import annotations

import pytest
import torch

from launcher.checkpoint.weights import Slice


@pytest.mark.parametrize(
    ("offset", "shape"), [(0, (2, 2)), (3, (2, 3)), (5, (1,)), (4, (8,)), (11, (1, 1)), (0, (12,))]
)
def test_a_slice_is_what_it_is_of_the_whole_vector(offset: int, shape: tuple[int, ...]) -> None:
    whole = torch.arange(12.0)
    parts = whole.split([5, 4, 3])
    found = Slice(parts=parts, offset=offset, shape=shape).contiguous()
    assert torch.equal(found, whole[offset:][: found.numel()].view(shape))
    assert found.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
