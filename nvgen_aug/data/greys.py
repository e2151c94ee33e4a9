"""Greys: how bright real and synthetic images are, from a few voxels of a few items."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import final

import numpy as np
import torch
from monai.data import MetaTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES = (1, 25, 50, 75, 99)
ITEMS = 4  # of each kind; one crop may lie in the background
VOXELS = 4096  # of each item
THRESHOLD = 0.5  # of the real images' range between the outer percentiles


@final
class Greys:
    """Grey values of the first items of each kind, compared once there are enough."""

    __slots__ = ("_seen", "is_done")

    def __init__(self) -> None:
        self._seen: dict[int, list[NDArray[np.float32]]] = {0: [], 1: []}
        self.is_done = False

    def add(self, image: torch.Tensor, kind: int) -> str:
        """Take note of an image of a kind (1 synthetic, 0 real).

        Returns:
            Once, when it can be told: what is wrong, with a table. Else nothing.
        """
        if self.is_done or len(self._seen[kind]) == ITEMS:
            return ""
        self._seen[kind].append(sampled(image, VOXELS))
        if min(map(len, self._seen.values())) < ITEMS:
            return ""
        real, synthetic = (np.concatenate(self._seen[kind]) for kind in (0, 1))
        self.is_done = True
        self._seen = {0: [], 1: []}
        return _complaint(real, synthetic)


def sampled(image: torch.Tensor, voxels: int) -> NDArray[np.float32]:
    """At most that many voxels of an image, evenly spread over it."""
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    flat = plain.detach().cpu().reshape(-1)
    # An odd stride walks through all rows and columns.
    stride = -(-flat.numel() // voxels) | 1
    return flat[::stride].to(torch.float32).numpy().copy()


def _complaint(real: NDArray[np.float32], synthetic: NDArray[np.float32]) -> str:
    ours, theirs = (np.percentile(greys, PERCENTILES) for greys in (real, synthetic))
    scale = float(ours[-1] - ours[0]) or float(theirs[-1] - theirs[0]) or 1.0
    apart = np.abs(ours - theirs) / scale
    if apart.max() <= THRESHOLD:
        return ""
    rows = "\n".join(
        f"  {f'p{name}':<10}  {a:>12.5g}  {b:>12.5g}  {gap:>9.2f}{'  <' if gap > THRESHOLD else ''}"
        for name, a, b, gap in zip(PERCENTILES, ours, theirs, apart, strict=True)
    )
    return (
        f"real and synthetic images differ in brightness by more than {THRESHOLD} of the real "
        f"range, over the first {ITEMS} items of each:\n"
        f"  {'percentile':<10}  {'real':>12}  {'synthetic':>12}  {'apart':>9}\n{rows}\n"
        "a network can tell them apart by this alone; bring both to one scale in their "
        "preprocessing, or put Harmonised in `transform=`"
    )
