"""Decoder: a latent to an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from .layers import Convolution
from .layers import GroupNorm
from .layers import ResidualBlock
from .layers import TransposedUpsample
from .layers import Upsample


@final
class Decoder(nn.Module):
    """Latent `[B, 4, x, y, z]` to image `[B, 1, 4x, 4y, 4z]`, MAISI's topology.

    There is no attention in it: nineteen convolutions, thirteen group norms, two upsamplings. So
    the norms' statistics are all that any crop needs to know of the rest of the volume.

    Args:
        latent: Latent channels.
        widths: Channels of the levels, finest first.
        groups: Groups of every norm.
        eps: Added to variances.
        outputs: Channels of the image.
        blocks: Residual blocks of the levels, finest first; two in each if `None`.
        is_transposed: Whether levels are joined by transposed convolutions, as in the autoencoder
            of masks, and not by interpolation.
    """

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        groups: int,
        eps: float,
        *,
        outputs: int = 1,
        blocks: Sequence[int] | None = None,
        is_transposed: bool = False,
    ) -> None:
        super().__init__()
        width = widths[-1]
        layers: list[nn.Module] = [Convolution(latent, width)]
        levels = list(zip(widths, blocks or [2] * len(widths), strict=True))
        for level, (wanted, number) in reversed(list(enumerate(levels))):
            for _ in range(number):
                layers.append(ResidualBlock(width, wanted, groups, eps))
                width = wanted
            if level > 0:
                layers.append(TransposedUpsample(width) if is_transposed else Upsample(width))
        # No activation between the last norm and the last convolution: the family has none.
        layers.append(GroupNorm(groups, width, eps=eps))
        layers.append(Convolution(width, outputs))
        self.blocks = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def norms(self) -> list[GroupNorm]:
        """The group norms in the order in which they run."""
        return [m for m in self.modules() if isinstance(m, GroupNorm)]
