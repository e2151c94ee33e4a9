"""Arithmetic: the steps of a network on tensors, at whatever place of a volume they lie."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Protocol
from typing import final

import torch
from torch import nn
from torch.nn import functional

from .convolve import convolve
from .moments import Moments
from .normalise import activate
from .normalise import normalise_into
from .normalise import scale_and_shift
from .spans import Box
from .spans import Grid
from .spans import Span
from .spans import slices
from .steps import Step


class Sink(Protocol):
    """Where the output goes."""

    def begin(self) -> None:
        """The first planes come next; forget what came before."""

    def write(self, span: Span, planes: torch.Tensor) -> None:
        """Take the next planes along x, `[1, C, planes, y, z]`; the span is that of the grid."""


@final
class Arithmetic:
    """A worker on tensors.

    Args:
        steps: The network.
        statistics: `[norms, groups, 2]` that the norms must use, or `None` to use their own.
        sink: Where the output goes.
        progress: Called before every step on every slab.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        statistics: torch.Tensor | None,
        sink: Sink,
        progress: Callable[[], None],
    ) -> None:
        self._steps = steps
        self._sink = sink
        self._progress = progress
        self._normed = [k for k, step in enumerate(steps) if step.norm is not None]
        if statistics is not None and len(statistics) != len(self._normed):
            msg = f"statistics must be of {len(self._normed)} norms, got {len(statistics)}"
            raise ValueError(msg)
        given = () if statistics is None else zip(self._normed, statistics, strict=True)
        self._statistics: dict[int, torch.Tensor] = dict(given)
        self._scales: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._moments: dict[int, Moments] = {}
        for index in self._normed if statistics is None else ():
            norm = steps[index].norm
            assert norm is not None
            self._moments[steps[index].source] = Moments(norm.num_groups)
        self.measured = frozenset(self._moments)

    @property
    def statistics(self) -> torch.Tensor:
        """Float32 `[norms, groups, 2]` that were used."""
        return torch.stack([self._statistics[index] for index in self._normed])

    def make(self, index: int, views: list[torch.Tensor], box: Box, grid: Grid) -> torch.Tensor:
        """A box of what step `index` makes."""
        self._progress()
        step = self._steps[index]
        padding = [step.padding(span, size) for span, size in zip(box, grid, strict=True)]
        # A convolution pads both sides alike; other zeros are written.
        written = [(0, 0) if low == high else (low, high) for low, high in padding]
        if step.norm is not None:
            values = self._normalised(index, views, written)
        else:
            values = views[0] if len(views) == 1 else torch.cat(views, dim=2)
            if step.resize == "scatter":
                return _scattered(step, values, box, grid)
            if step.resize == "up":
                values = _doubled(step, values, box, grid)
            if any(map(any, written)):
                room, inner = _room_for([values], written)
                inner.copy_(values)
                values = room
        left = [low if low == high else 0 for low, high in padding]
        assert isinstance(step.convolution, nn.Conv3d)
        return convolve(step.convolution, values, left)

    def add(self, piece: torch.Tensor, views: list[torch.Tensor]) -> None:
        """Add some views, side by side along x, to a piece, in place."""
        parts = torch.split(piece, [view.shape[2] for view in views], dim=2)
        for part, view in zip(parts, views, strict=True):
            part += view

    def measure(self, number: int, piece: torch.Tensor) -> None:
        """Take the moments of the next planes of a map."""
        self._moments[number].add(piece)

    def conclude(self, number: int) -> None:
        """Statistics of a map that has been measured, for the norm that reads it."""
        statistics = self._moments[number].statistics()
        for index in self._normed:
            if self._steps[index].source == number:
                self._statistics[index] = statistics

    def begin(self) -> None:
        """The output begins."""
        self._sink.begin()

    def emit(self, span: Span, piece: torch.Tensor) -> None:
        """The next planes of the output."""
        self._sink.write(span, piece)

    def _normalised(
        self, index: int, views: list[torch.Tensor], written: Sequence[Span]
    ) -> torch.Tensor:
        step = self._steps[index]
        assert step.norm is not None
        if index not in self._scales:
            self._scales[index] = scale_and_shift(step.norm, self._statistics[index])
        scale, shift = self._scales[index]
        values, inner = _room_for(views, written)
        parts = torch.split(inner, [view.shape[2] for view in views], dim=2)
        for part, view in zip(parts, views, strict=True):
            normalise_into(part, view, scale, shift)
        return activate(values) if step.is_activated else values


def _doubled(step: Step, values: torch.Tensor, box: Box, grid: Grid) -> torch.Tensor:
    """Twice the edge by trilinear interpolation, and of it what the convolution needs."""
    larger = functional.interpolate(values, scale_factor=2, mode="trilinear", align_corners=False)
    # At the rim of the piece, not of the volume, a voxel lacked a neighbour: it is cut off.
    made, needed = [], []
    for (first, last), size in zip(box, grid, strict=True):
        low, high = step.needs((first, last), size)
        made.append((2 * low, 2 * high))
        needed.append((max(first - step.margin, 0), min(last + step.margin, 2 * size)))
    return larger[slices((needed[0], needed[1], needed[2]), (made[0], made[1], made[2]))]


def _scattered(step: Step, values: torch.Tensor, box: Box, grid: Grid) -> torch.Tensor:
    """Twice the edge by a transposed convolution, and of it the box."""
    layer = step.convolution
    # Without its padding it also makes the voxel before the first and the one after the last.
    larger = functional.conv_transpose3d(values, layer.weight, layer.bias, stride=2)
    made = []
    for span, size in zip(box, grid, strict=True):
        low, high = step.needs(span, size)
        made.append((2 * low - 1, 2 * high))
    return larger[slices(box, (made[0], made[1], made[2]))]


def _room_for(
    views: list[torch.Tensor], zeros: Sequence[Span]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor for some pieces side by side with zeros around, and its part inside the zeros."""
    first = views[0]
    inner = (sum(view.shape[2] for view in views), *first.shape[3:])
    outer = [n + low + high for n, (low, high) in zip(inner, zeros, strict=True)]
    room = torch.empty(
        (1, first.shape[1], *outer),
        dtype=first.dtype,
        device=first.device,
        memory_format=torch.channels_last_3d,
    )
    if any(map(any, zeros)):
        room.zero_()
    x, y, z = (slice(low, low + n) for n, (low, _) in zip(inner, zeros, strict=True))
    return room, room[:, :, x, y, z]
