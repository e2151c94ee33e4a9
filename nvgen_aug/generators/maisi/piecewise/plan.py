"""Plan: how a network is run so that it fits into memory, with what that costs.

The plans, best first. All give the same voxels to rounding.

    whole      every feature map in one piece
    slabs      every feature map in slabs, let go as they are read: the same work
    stream     no feature map is held, if the norms' statistics are known: the same work
    recompute  at the finest grid only the sums of residual blocks are held: 1.75 times the work
    scan       at the finest grid nothing is held: 3.3 times the work
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from .rehearsal import Cost
from .rehearsal import rehearse
from .spans import Box
from .spans import Grid
from .spans import whole
from .steps import Step
from .steps import boxes_of
from .steps import flops_of
from .steps import grids_of

# Kernels index with 32 bits, or are slow where they must not.
MOST_ELEMENTS = 2**31 - 1
# Rehearsals to remember: crops come at any place.
_REMEMBERED = 256
# Planes of a slab: fewer save memory, but halos and launches weigh more.
_PLANES = (64, 32, 16, 8, 4)
# On a processor slabs of so many planes take no longer than the whole, and less than two thirds of
# its memory (benchmarks/decode_whole.py). What is small anyway stays in one piece.
_THRIFTY_PLANES = 16
_SMALL_BYTES = 256 << 20


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """One way to run a network.

    Attributes:
        name: As above.
        planes: Planes of a slab along x; `None` for all at once.
        streamed: Numbers of the feature maps that are never held.
        cost: What it takes.
    """

    name: str
    planes: int | None
    streamed: frozenset[int]
    cost: Cost

    @property
    def needed_bytes(self) -> int:
        """What must be free: some more, for workspaces of convolutions and the output."""
        peak = self.cost.peak_bytes
        return peak + peak // 8 + (64 << 20)

    def __str__(self) -> str:
        planes = "" if self.planes is None else f" of {self.planes} planes"
        work = f"{self.cost.flops / 1e12:.3g} TFLOP"
        return f"{self.name}{planes}: {work}, {mebibytes(self.cost.peak_bytes)}"


@final
class Planner:
    """Plans for one network, rehearsed on shapes alone and remembered.

    Args:
        steps: The network.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._known: dict[tuple[Grid, Box, bool, str, int | None], Plan] = {}

    def everything(self, grid: Grid) -> Box:
        """All of the output of an input of this grid."""
        return whole(grids_of(self._steps, grid)[-1])

    def flops(self, grid: Grid, box: Box) -> int:
        """Operations to make a box of the output, statistics known, from an input of this grid."""
        return flops_of(self._steps, boxes_of(self._steps, grids_of(self._steps, grid), box))

    def candidates(
        self, grid: Grid, box: Box, *, has_statistics: bool, is_processor: bool = False
    ) -> Iterator[Plan]:
        """All plans that a device of any size could carry out, best first.

        Args:
            grid: Voxels of the input.
            box: What is wanted of the output.
            has_statistics: Whether the norms' statistics are known.
            is_processor: Whether it runs on a CPU, where larger pieces than it takes are no faster
                and left out.
        """
        names = ("slabs", "stream") if has_statistics else ("slabs", "recompute", "scan")
        ways = [("whole", None), *((name, planes) for name in names for planes in _PLANES)]
        for name, planes in ways:
            plan = self.rehearse(name, planes, grid, box, has_statistics=has_statistics)
            if plan is None or (is_processor and _is_lavish(plan)):
                continue
            yield plan

    def rehearse(
        self, name: str, planes: int | None, grid: Grid, box: Box, *, has_statistics: bool
    ) -> Plan | None:
        """What a plan costs; `None` if it would have a tensor of 2^31 elements or more."""
        key = (grid, box, has_statistics, name, planes)
        if key not in self._known:
            while len(self._known) >= _REMEMBERED:
                self._known.pop(next(iter(self._known)))
            streamed = self._streamed(name, grid)
            cost = rehearse(
                self._steps,
                grid,
                box,
                has_statistics=has_statistics,
                planes=planes,
                streamed=streamed,
            )
            self._known[key] = Plan(name, planes, streamed, cost)
        plan = self._known[key]
        return plan if plan.cost.most_elements <= MOST_ELEMENTS else None

    def _streamed(self, name: str, grid: Grid) -> frozenset[int]:
        """The maps that a plan of this name never holds."""
        inner = range(1, len(self._steps))
        if name == "stream":
            return frozenset(inner)
        if name not in ("recompute", "scan"):
            return frozenset()
        grids = grids_of(self._steps, grid)
        finest = max(math.prod(g) for g in grids)
        found = {number for number in inner if math.prod(grids[number]) == finest}
        if name == "recompute":
            found -= {n for n in found if self._steps[n - 1].added is not None}
        return frozenset(found)


def _is_lavish(plan: Plan) -> bool:
    is_large = plan.planes is None or plan.planes > _THRIFTY_PLANES
    return is_large and plan.cost.peak_bytes > _SMALL_BYTES


def mebibytes(nbytes: int) -> str:
    """Bytes as people read them."""
    return f"{nbytes / 2**20:,.0f} MiB"
