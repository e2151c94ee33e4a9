"""Layers: the autoencoder's building blocks, named as the family's state dicts name them.

`blocks.N.conv.conv.weight` and its kin are the key grammar of the released checkpoints, hence the
modules that hold nothing but a `conv`.
"""

from __future__ import annotations

from typing import final

import torch
from torch import nn
from torch.nn import functional


@final
class Kernel(nn.Module):
    """A convolution under the key `conv`."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, size, stride=stride, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv(x)
        return result


@final
class Convolution(nn.Module):
    """A same-size convolution under the key `conv.conv`."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__()
        self.conv = Kernel(inputs, outputs, size, padding=size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv(x)
        return result


@final
class GroupNorm(nn.GroupNorm):
    """Group norm that can report the statistics it used.

    Set `watched` to a list and each forward appends a float32 `[groups, 2]` tensor: mean and biased
    variance of the first batch element.
    """

    watched: list[torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.watched is not None:
            grouped = x[0].float().reshape(self.num_groups, -1)
            variance, mean = torch.var_mean(grouped, dim=1, correction=0)
            self.watched.append(torch.stack([mean, variance], dim=1))
        return super().forward(x)


@final
class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input or to its 1x1x1 projection."""

    def __init__(self, inputs: int, outputs: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs, eps=eps)
        self.conv1 = Convolution(inputs, outputs)
        self.norm2 = GroupNorm(groups, outputs, eps=eps)
        self.conv2 = Convolution(outputs, outputs)
        self.nin_shortcut = (
            Convolution(inputs, outputs, size=1) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        result: torch.Tensor = self.nin_shortcut(x) + h
        return result


@final
class Downsample(nn.Module):
    """Half the edge: one voxel of zeros on each axis' high side, then a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Module()
        self.conv.conv = Kernel(channels, channels, stride=2, padding=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv.conv(functional.pad(x, (0, 1, 0, 1, 0, 1)))  # type: ignore[operator]
        return result


@final
class Upsample(nn.Module):
    """Twice the edge: trilinear interpolation, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        larger = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
        result: torch.Tensor = self.conv(larger)
        return result


@final
class TransposedUpsample(nn.Module):
    """Twice the edge: a transposed convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Two modules that hold nothing but a `conv`, for the keys.
        self.conv = nn.Module()
        self.conv.conv = nn.Module()
        self.conv.conv.conv = nn.ConvTranspose3d(
            channels, channels, 3, stride=2, padding=1, output_padding=1
        )

    @property
    def layer(self) -> nn.ConvTranspose3d:
        """The transposed convolution."""
        layer: nn.ConvTranspose3d = self.conv.conv.conv  # type: ignore[union-attr,assignment]
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)
        return result
