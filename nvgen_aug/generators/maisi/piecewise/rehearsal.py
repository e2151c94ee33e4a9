"""Rehearsal: a sweep without arithmetic, to learn what it would cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import final

from .spans import Box
from .spans import Grid
from .spans import Span
from .spans import extent
from .steps import Step
from .sweep import Sweep


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """What stands for a tensor: its extents, and bytes of one value."""

    sizes: tuple[int, ...]
    itemsize: int

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor would take."""
        return math.prod(self.sizes) * self.itemsize

    def size(self, dim: int, /) -> int:
        """Its extent along an axis."""
        return self.sizes[dim]

    def narrow(self, dim: int, start: int, length: int, /) -> Shape:
        """The shape of a part of it along an axis."""
        return replace(self, sizes=(*self.sizes[:dim], length, *self.sizes[dim + 1 :]))


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """What a sweep takes.

    Attributes:
        flops: Operations of its convolutions.
        peak_bytes: Most bytes of feature maps, and of one step's input and output, at one time.
        most_elements: Of one tensor.
    """

    flops: int
    peak_bytes: int
    most_elements: int


@final
class _Rehearsal:
    """A worker on shapes."""

    def __init__(self, steps: Sequence[Step], *, has_statistics: bool) -> None:
        self._steps = steps
        self.sweep: Sweep[Shape] | None = None
        self.flops = self.peak_bytes = self.most_elements = 0
        sources = () if has_statistics else (s.source for s in steps if s.norm is not None)
        self.measured = frozenset(sources)

    def make(self, index: int, views: list[Shape], box: Box, grid: Grid) -> Shape:
        step = self._steps[index]
        itemsize = step.convolution.weight.itemsize
        inputs, outputs = step.channels
        made = Shape((1, outputs, *extent(box)), itemsize)
        read = [sum(view.size(2) for view in views), *views[0].sizes[3:]]
        if step.is_doubling:
            read = [2 * n for n in read]
        values = Shape((1, inputs, *read), itemsize)
        # Besides its result, a step holds what it reads normalised, doubled or put together.
        spare = sum(view.nbytes for view in views) if step.is_doubling else 0
        self.flops += step.flops(math.prod(extent(box)))
        self._note(made.nbytes + values.nbytes + spare, made, values)
        return made

    def add(self, piece: Shape, views: list[Shape]) -> None:
        """Nothing is made."""

    def measure(self, number: int, piece: Shape) -> None:
        """The piece, and a copy of it on which the moments are computed."""
        self._note(2 * piece.nbytes)

    def conclude(self, number: int) -> None:
        """Nothing is made."""

    def begin(self) -> None:
        """Nothing is made."""

    def emit(self, span: Span, piece: Shape) -> None:
        """Nothing is made."""

    def _note(self, nbytes: int, *shapes: Shape) -> None:
        assert self.sweep is not None
        self.peak_bytes = max(self.peak_bytes, self.sweep.nbytes + nbytes)
        self.most_elements = max(self.most_elements, *(math.prod(s.sizes) for s in shapes), 0)


def rehearse(
    steps: Sequence[Step],
    grid: Grid,
    box: Box,
    *,
    has_statistics: bool,
    planes: int | None,
    streamed: frozenset[int],
) -> Cost:
    """What a sweep with these arguments takes; workspaces of convolutions not counted."""
    worker = _Rehearsal(steps, has_statistics=has_statistics)
    sweep = Sweep(steps, worker, grid, box, planes=planes, streamed=streamed)
    worker.sweep = sweep
    itemsize = steps[0].convolution.weight.itemsize
    sweep.run(Shape((1, steps[0].channels[0], *extent(sweep.source_box)), itemsize))
    return Cost(worker.flops, worker.peak_bytes, worker.most_elements)
