"""How much memory a type of GPU has, from its name. Where the name leaves it open, the answer is that it is open."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOMINAL_GB: dict[str, tuple[int, ...]] = {
    "a10": (24,),
    "a30": (24,),
    "a40": (48,),
    "a100": (40, 80),
    "a6000": (48,),
    "h100": (80,),
    "h200": (141,),
    "l4": (24,),
    "l40": (48,),
    "l40s": (48,),
    "p100": (12, 16),
    "t4": (16,),
    "v100": (16, 32),
}
"""By the makers' data sheets; several where the type was sold with one or the other."""


def sizes_gb(gpu_type: str, features: Sequence[str]) -> tuple[int, ...]:
    """What the memory can be, GB: one size where it is known, none where the name says nothing.

    A size in the type's own name (`nvidia_a100_80gb_pcie`, `1g.10gb`) counts first; then those that the type was made
    with, narrowed down by a node's features (`a100_80g`, `gpu_mem:80gb`).
    """
    named = re.findall(r"(\d+)gb", gpu_type.lower())
    if named:
        return (int(named[-1]),)
    words = re.split(r"[^a-z0-9]+", gpu_type.lower())
    # A slice of a device, or one with more memory than the plain type, is no plain type.
    if "nvl" in words or re.search(r"\dg\b", gpu_type):
        return ()
    made = next((NOMINAL_GB[word] for word in words if word in NOMINAL_GB), ())
    told = {int(size) for feature in features for size in re.findall(r"(\d{2,3})gb?(?![a-z0-9])", feature.lower())}
    return tuple(size for size in made if size in told) if len(made) > 1 and told & set(made) else made
