"""Spans: which voxels of a grid are wanted, and which of the grid before they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# First voxel and the one after the last, along one axis, in voxels of the whole grid.
Span = tuple[int, int]
# One span for each of x, y and z.
Box = tuple[Span, Span, Span]
# Voxels of a whole grid along x, y and z.
Grid = tuple[int, int, int]


def grid_of(tensor: torch.Tensor) -> Grid:
    """Voxels of a tensor `[B, C, x, y, z]` along its spatial axes."""
    x, y, z = tensor.shape[2:]
    return x, y, z


def whole(grid: Grid) -> Box:
    """All of a grid."""
    x, y, z = grid
    return (0, x), (0, y), (0, z)


def extent(box: Box) -> Grid:
    """Voxels of a box along x, y and z."""
    x, y, z = (high - low for low, high in box)
    return x, y, z


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box around some boxes."""
    x, y, z = (
        (min(low for low, _ in spans), max(high for _, high in spans))
        for spans in zip(*boxes, strict=True)
    )
    return x, y, z


def slices(inner: Box, outer: Box) -> tuple[slice, ...]:
    """Where a box lies in a tensor `[B, C, x, y, z]` that holds another box around it."""
    spatial = (
        slice(low - origin, high - origin)
        for (low, high), (origin, _) in zip(inner, outer, strict=True)
    )
    return (slice(None), slice(None), *spatial)


def around(span: Span, size: int, margin: int) -> Span:
    """A span and `margin` voxels on both sides, as far as the grid of `size` voxels goes."""
    low, high = span
    return max(low - margin, 0), min(high + margin, size)


def coarse_under(span: Span, size: int) -> Span:
    """What trilinear doubling of a grid of `size` voxels needs for a span of the doubled grid.

    Voxel `2i + 1` of the doubled grid is made of `i` and `i + 1`, voxel `2i` of `i - 1` and `i`.
    """
    low, high = span
    return max((low - 1) // 2, 0), min((high + 2) // 2, size)


def fine_over(span: Span, size: int) -> Span:
    """What a strided convolution (kernel 3, stride 2, no padding below) needs for a span."""
    low, high = span
    return 2 * low, min(2 * high + 1, size)


def scattered_from(span: Span, size: int) -> Span:
    """What a transposed convolution (kernel 3, stride 2, padding 1) needs of `size` voxels.

    Voxel `2i` of the doubled grid is made of `i`, voxel `2i + 1` of `i` and `i + 1`.
    """
    low, high = span
    return low // 2, min(high // 2 + 1, size)
