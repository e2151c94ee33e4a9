"""Normalise: a group norm with known statistics, and the SiLU after it, written where they go."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def scale_and_shift(
    norm: nn.GroupNorm, statistics: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A group norm with known statistics as one factor and one summand for each channel.

    Args:
        norm: Its weights.
        statistics: `[groups, 2]`, mean and biased variance.

    Returns:
        Two tensors `[1, C, 1, 1, 1]` of at least single precision.
    """
    width = norm.num_channels // norm.num_groups
    mean, variance = statistics.double().repeat_interleave(width, dim=0).unbind(1)
    scale = norm.weight.double() * torch.rsqrt(variance + norm.eps)
    shift = norm.bias.double() - mean * scale
    precise = torch.float64 if norm.weight.dtype == torch.float64 else torch.float32
    return scale.to(precise)[None, :, None, None, None], shift.to(precise)[
        None, :, None, None, None
    ]


def normalise_into(
    target: torch.Tensor, source: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> None:
    """Write `source * scale + shift` into `target`, both `[1, C, x, y, z]`, in one pass."""
    torch.addcmul(shift, source, scale, out=target)


def activate(values: torch.Tensor) -> torch.Tensor:
    """SiLU in place; zeros around the values stay zeros."""
    return functional.silu(values, inplace=True)
