"""Moments: mean and variance of the groups of a feature map that is never seen as a whole.

Every plane across x gives its own mean and sum of squared deviations; they are pooled at the end,
in double precision, by the formula of Chan, Golub and LeVeque (1983), which keeps the variance of
the planes' means. So the result does not depend on how the map was cut.
"""

from __future__ import annotations

from typing import final

import torch

# Elements that are looked at in one go: what a processor's cache holds, and small beside a feature
# map on a GPU.
_CHUNK = {"cpu": 1 << 20}
_LARGE_CHUNK = 1 << 26


@final
class Moments:
    """Collects the planes of one feature map, in whatever pieces they come.

    Args:
        groups: Groups of the norm that will read the map.
    """

    __slots__ = ("_groups", "_means", "_scatters", "_voxels")

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._means: list[torch.Tensor] = []
        self._scatters: list[torch.Tensor] = []
        self._voxels = 0  # of one group in one plane

    def add(self, piece: torch.Tensor) -> None:
        """Take the planes of a piece `[1, C, planes, Y, Z]`."""
        _, channels, _, *plane = piece.shape
        self._voxels = plane[0] * plane[1] * channels // self._groups
        rows = piece[0].permute(1, 2, 3, 0)
        size = _CHUNK.get(piece.device.type, _LARGE_CHUNK) // (channels * plane[0] * plane[1])
        for some in torch.split(rows, max(size, 1)):
            flat = some.reshape(len(some), -1, channels)
            if flat.dtype in (torch.float16, torch.bfloat16):
                flat = flat.float()
            mean = self._grouped(flat.sum(1)) / self._voxels
            centre = mean.repeat_interleave(channels // self._groups, dim=1)[:, None]
            deviations = flat - centre
            self._means.append(mean)
            self._scatters.append(self._grouped(deviations.mul_(deviations).sum(1)))

    def statistics(self) -> torch.Tensor:
        """Float32 `[groups, 2]`: mean and biased variance of all planes."""
        means = torch.cat(self._means).double()
        scatter = torch.cat(self._scatters).double().sum(0)
        mean = means.mean(0)
        scatter += self._voxels * (means - mean).square().sum(0)
        variance = scatter / (self._voxels * len(means))
        return torch.stack([mean, variance], dim=1).float()

    def _grouped(self, channels: torch.Tensor) -> torch.Tensor:
        return channels.reshape(len(channels), self._groups, -1).sum(2)
