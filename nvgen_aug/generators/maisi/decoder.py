"""Decoder: a latent to an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from .layers import Convolution
from .layers import GroupNorm
from .layers import ResidualBlock
from .layers import Upsample


@final
class Decoder(nn.Module):
    """Latent `[B, 4, x, y, z]` to image `[B, 1, 4x, 4y, 4z]`, MAISI's topology.

    There is no attention in it: nineteen convolutions, thirteen group norms, two upsamplings. So
    the norms' statistics are all that any crop needs to know of the rest of the volume.
    """

    def __init__(self, latent: int, widths: Sequence[int], groups: int, eps: float) -> None:
        super().__init__()
        reversed_widths = list(reversed(widths))
        width = reversed_widths[0]
        blocks: list[nn.Module] = [Convolution(latent, width)]
        for level, outputs in enumerate(reversed_widths):
            for _ in range(2):
                blocks.append(ResidualBlock(width, outputs, groups, eps))
                width = outputs
            if level < len(reversed_widths) - 1:
                blocks.append(Upsample(width))
        # No activation between the last norm and the last convolution: the family has none.
        blocks.append(GroupNorm(groups, width, eps=eps))
        blocks.append(Convolution(width, 1))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def norms(self) -> list[GroupNorm]:
        """The group norms in the order in which they run."""
        return [m for m in self.modules() if isinstance(m, GroupNorm)]
