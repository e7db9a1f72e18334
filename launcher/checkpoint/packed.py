"""Numbers in 8 bits: blocks that share a scale, and codes that lie the closer together the nearer they are to zero.

Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861: dynamic tree quantisation, one byte an
element and one fp32 scale a block. Knows no optimiser.
"""

from __future__ import annotations

from functools import cache

import torch

BLOCK = 256
"""Elements that share a scale."""
CHUNK = 1 << 24
"""Elements that are packed at a time: while they are, each takes twenty bytes more. Whole blocks."""
_EXPONENTS = 7


@cache
def codebook(device: torch.device, *, signed: bool) -> torch.Tensor:
    """What the 256 codes stand for, as shares of the block's scale, ascending (appendix of the paper, figure 2)."""
    values = [0.0, 1.0]
    for exponent in range(_EXPONENTS):
        count = 2**exponent if signed else 2 ** (exponent + 1)
        edges = torch.linspace(0.1, 1, count + 1, dtype=torch.float64)
        means = (10.0 ** (exponent - _EXPONENTS + 1) * (edges[:-1] + edges[1:]) / 2).tolist()
        values += [*means, *(-value for value in means)] if signed else means
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


@cache
def _borders(device: torch.device, *, signed: bool) -> torch.Tensor:
    codes = codebook(device, signed=signed)
    return (codes[:-1] + codes[1:]) / 2


def zeros(count: int, device: torch.device, *, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of so many zeros."""
    zero = int((codebook(device, signed=signed) == 0).nonzero())
    codes = torch.full((count,), zero, dtype=torch.uint8, device=device)
    return codes, torch.zeros(-(-count // BLOCK), device=device)


def pack(values: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, *, signed: bool) -> None:
    """Put flat fp32 `values`, which begin with a block, into `codes` and `scales`: each the code nearest to it."""
    blocks = torch.nn.functional.pad(values, (0, -values.numel() % BLOCK)).view(-1, BLOCK)
    scales.copy_(blocks.abs().amax(dim=1))
    shares = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
    found = torch.bucketize(shares, _borders(values.device, signed=signed), out_int32=True)
    codes.copy_(found.view(-1)[: values.numel()])


def unpack(codes: torch.Tensor, scales: torch.Tensor, *, signed: bool, first: int = 0) -> torch.Tensor:
    """The fp32 numbers that `codes` stand for, of which the first is the `first` element of the first block."""
    padded = torch.nn.functional.pad(codes, (first, -(first + codes.numel()) % BLOCK))
    values = codebook(codes.device, signed=signed)[padded.int()].view(-1, BLOCK) * scales.unsqueeze(1)
    return values.view(-1)[first : first + codes.numel()]


def unpack_part(codes: torch.Tensor, scales: torch.Tensor, start: int, count: int, *, signed: bool) -> torch.Tensor:
    """`count` numbers from `start` on, of all that were packed."""
    blocks = slice(start // BLOCK, -(-(start + count) // BLOCK))
    return unpack(codes[start : start + count], scales[blocks], signed=signed, first=start % BLOCK)
