"""Sweep: the steps of a network in slabs, in an order that lets every feature map go once it has
been read.

Every map is made in slabs along x. A convolution reads a halo of one plane from the slabs beside
its own, so no work is done twice and nothing is approximate. A map may also be *streamed*: never
held, but made anew, slab by slab, whenever a later map reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic
from typing import Protocol
from typing import final

from .feature_map import FeatureMap
from .feature_map import P
from .spans import Box
from .spans import Grid
from .spans import Span
from .steps import Step
from .steps import boxes_of
from .steps import grids_of


class Worker(Protocol[P]):
    """What carries out a step on the pieces that a sweep hands to it."""

    @property
    def measured(self) -> frozenset[int]:
        """Numbers of the maps of which moments must be taken before they can be read."""

    def make(self, index: int, views: list[P], box: Box, grid: Grid) -> P:
        """A box of what step `index` makes, from what it needs of a source of this grid."""

    def add(self, piece: P, views: list[P]) -> None:
        """Add some views, side by side along x, to a piece, in place."""

    def measure(self, number: int, piece: P) -> None:
        """Take the moments of the next planes of a map."""

    def conclude(self, number: int) -> None:
        """All planes of a map have been measured."""

    def begin(self) -> None:
        """The output begins."""

    def emit(self, span: Span, piece: P) -> None:
        """The next planes of the output."""


@final
@dataclass(frozen=True, slots=True)
class Pass:
    """Maps that are made side by side, slab by slab; those that are not kept are measured only."""

    targets: tuple[int, ...]
    is_kept: bool


@final
class Sweep(Generic[P]):
    """One run of a network over a box of its output.

    Args:
        steps: The network.
        worker: Does the arithmetic.
        grid: Voxels of the network's input.
        box: What is wanted of its output.
        planes: Planes of a slab, along x; `None` for all at once.
        streamed: Numbers of the maps that are never held.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        worker: Worker[P],
        grid: Grid,
        box: Box,
        *,
        planes: int | None = None,
        streamed: frozenset[int] = frozenset(),
    ) -> None:
        self._steps = steps
        self._worker = worker
        self._planes = planes
        self._streamed = streamed - {0, len(steps)}
        self._grids = grids_of(steps, grid)
        self._maps: list[FeatureMap[P]] = []
        for number, wanted in enumerate(boxes_of(steps, self._grids, box)):
            readers = (k for k, step in enumerate(steps) if number in (step.source, step.added))
            self._maps.append(FeatureMap(wanted, frozenset(readers)))

    @property
    def nbytes(self) -> int:
        """Bytes of the feature maps that are held now."""
        return sum(feature_map.nbytes for feature_map in self._maps)

    @property
    def source_box(self) -> Box:
        """What is needed of the network's input."""
        return self._maps[0].box

    def run(self, source: P) -> None:
        """Make the output from what is needed of the input."""
        self._worker.begin()
        self._maps[0].add(source)
        passes = self._passes()
        active = [self._active(one) for one in passes]
        for index, one in enumerate(passes):
            later: frozenset[int] = frozenset().union(*active[index + 1 :])
            self._prepare(active[index], later)
            self._carry_out(one)

    def _passes(self) -> list[Pass]:
        """Which maps are made together, in order."""
        passes: list[Pass] = []
        for number, step in enumerate(self._steps, start=1):
            if number in self._streamed:
                if number in self._worker.measured:
                    passes.append(Pass((number,), is_kept=False))
                continue
            # A shortcut is made together with the convolution that reads the same map.
            joins = bool(passes) and passes[-1].is_kept and step.norm is None
            if joins and self._steps[passes[-1].targets[0] - 1].source == step.source:
                passes[-1] = Pass((*passes[-1].targets, number), is_kept=True)
            else:
                passes.append(Pass((number,), is_kept=True))
        return passes

    def _active(self, one: Pass) -> frozenset[int]:
        """The steps that a pass carries out."""
        found: set[int] = set()
        waiting = list(one.targets)
        while waiting:
            index = waiting.pop() - 1
            if index not in found:
                found.add(index)
                sources = (self._steps[index].source, self._steps[index].added)
                waiting += [m for m in sources if m is not None and m in self._streamed]
        return frozenset(found)

    def _prepare(self, active: frozenset[int], later: frozenset[int]) -> None:
        for number, feature_map in enumerate(self._maps):
            if number in self._streamed:
                feature_map.clear()
                feature_map.begin(feature_map.readers & active)
            elif feature_map.readers & later:
                feature_map.begin(frozenset())  # nothing of it can be let go yet
            else:
                feature_map.begin(feature_map.readers & active)

    def _carry_out(self, one: Pass) -> None:
        low, high = self._maps[one.targets[0]].box[0]
        size = self._planes or (high - low)
        for first in range(low, high, size):
            for number in one.targets:
                # Of two maps that are made together, one may be wanted without the other's halo.
                begin, end = self._maps[number].box[0]
                span = (max(first, begin), min(first + size, end))
                if span[0] < span[1]:
                    self._hand_over(number, span, self._made(number - 1, span), one)
        for number in one.targets:
            if number in self._worker.measured:
                self._worker.conclude(number)

    def _hand_over(self, number: int, span: Span, piece: P, one: Pass) -> None:
        if number in self._worker.measured:
            self._worker.measure(number, piece)
        if number == len(self._steps):
            self._worker.emit(span, piece)
        elif one.is_kept:
            self._maps[number].add(piece)

    def _made(self, index: int, span: Span) -> P:
        """Planes of a step's output, across all of y and z that is wanted."""
        step = self._steps[index]
        grid = self._grids[step.source]
        _, across_y, across_z = self._maps[index + 1].box
        box = (span, across_y, across_z)
        x, y, z = (step.needs(s, size) for s, size in zip(box, grid, strict=True))
        piece = self._worker.make(index, self._read(step.source, (x, y, z)), box, grid)
        begin_of_next, _ = step.needs((span[1], span[1] + 1), grid[0])
        self._maps[step.source].release(index, begin_of_next)
        if step.added is not None:
            self._worker.add(piece, self._read(step.added, box))
            self._maps[step.added].release(index, span[1])
        return piece

    def _read(self, number: int, box: Box) -> list[P]:
        """Views of a box of a map; what is streamed is made first."""
        feature_map = self._maps[number]
        if number in self._streamed and feature_map.end < box[0][1]:
            feature_map.add(self._made(number - 1, (feature_map.end, box[0][1])))
        return feature_map.views(box)
