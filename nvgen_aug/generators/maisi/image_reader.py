"""Image reader: the layers through which a ControlNet reads the latent of a given image."""

from __future__ import annotations

from typing import final

import torch
from torch import nn
from torch.nn import functional


@final
class ImageReader(nn.Sequential):
    """Says of an image's latent what the encoder of masks would say of the image's mask.

    What a mask tells in millions of voxels has to be guessed here from a latent that is as small
    as the flow's. How well it is guessed decides how far a rendered image follows the given one:
    docs/decisions/0016.

    Args:
        read: Channels of the condition.
        width: Channels inside.
        blocks: Residual blocks.
        groups: Of every norm; must divide `width`.
        said: Channels of what is said.
    """

    def __init__(self, read: int, width: int, blocks: int, groups: int, said: int) -> None:
        super().__init__(
            nn.Conv3d(read, width, 3, padding=1),
            *(_Block(width, groups) for _ in range(blocks)),
            nn.SiLU(),
            nn.Conv3d(width, said, 3, padding=1),
        )


class _Block(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(
            functional.silu(self.first(functional.silu(self.norm(x))))
        )
        return x + found
