"""Encoder: an image to the mean and log-variance of its latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from .layers import Convolution
from .layers import Downsample
from .layers import GroupNorm
from .layers import ResidualBlock


@final
class Encoder(nn.Module):
    """Image `[B, 1, X, Y, Z]` to latent features `[B, 4, X/4, Y/4, Z/4]`, MAISI's topology."""

    def __init__(self, latent: int, widths: Sequence[int], groups: int, eps: float) -> None:
        super().__init__()
        blocks: list[nn.Module] = [Convolution(1, widths[0])]
        width = widths[0]
        for level, outputs in enumerate(widths):
            for _ in range(2):
                blocks.append(ResidualBlock(width, outputs, groups, eps))
                width = outputs
            if level < len(widths) - 1:
                blocks.append(Downsample(width))
        # No activation between the last norm and the last convolution: the family has none.
        blocks.append(GroupNorm(groups, width, eps=eps))
        blocks.append(Convolution(width, latent))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x
