"""Convolve: a layer's convolution with other padding than its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ..placement import OneDnnConv3d


def convolve(layer: nn.Conv3d, values: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """What the layer makes of values `[B, C, x, y, z]` with `padding` zeros on each axis."""
    if isinstance(layer, OneDnnConv3d) and values.dtype == torch.float32:
        made: torch.Tensor = torch.ops.aten.mkldnn_convolution(
            values, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups
        )
        return made
    return functional.conv3d(values, layer.weight, layer.bias, layer.stride, tuple(padding))
