"""Runner: a network over a box of its output, by the best plan that memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from ....errors import OutOfMemory
from .arithmetic import Arithmetic
from .arithmetic import Sink
from .memory import free_bytes
from .memory import is_out_of_memory
from .plan import Plan
from .plan import Planner
from .plan import mebibytes
from .spans import Box
from .spans import extent
from .spans import grid_of
from .spans import slices
from .spans import whole
from .steps import Step
from .sweep import Sweep

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class Ran:
    """How a network ran.

    Attributes:
        statistics: Float32 `[norms, groups, 2]` that its norms used.
        plan: The plan that was carried out.
    """

    statistics: torch.Tensor
    plan: Plan


@final
class Runner:
    """Runs one network, never trains it.

    Args:
        steps: The network; its weights may move to another device afterwards.
        verb: What it does, for messages, such as `"decode"`.
        free: Tells the free bytes of a device, or `None`.
        progress: Called before every step on every slab.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        verb: str,
        free: Callable[[torch.device], int | None] = free_bytes,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.planner = Planner(steps)
        self._steps = steps
        self._verb = verb
        self._free = free
        self._progress = progress
        self._ceiling: int | None = None  # bytes that have proved to be too many
        self._failed: tuple[Plan, list[Plan]] | None = None  # and the plans that were left then

    def use_less_memory(self) -> bool:
        """After `OutOfMemory`: begin below the plan that failed from now on, if there is one."""
        if self._failed is None:
            return False
        (plan, left), self._failed = self._failed, None
        if not any(p.needed_bytes < plan.needed_bytes for p in left):
            return False
        self._ceiling = plan.needed_bytes
        return True

    @torch.no_grad()
    def run(
        self,
        source: torch.Tensor,
        sink: Sink,
        *,
        box: Box | None = None,
        statistics: torch.Tensor | None = None,
        plan: Plan | None = None,
    ) -> Ran:
        """Make a box of the output and hand it to a sink.

        Args:
            source: The whole input `[1, C, x, y, z]`.
            sink: Where the output goes; it begins anew if memory runs out under way.
            box: What is wanted of the output; `None` for all.
            statistics: `[norms, groups, 2]` that the norms must use. A box that is not the whole
                needs those of the whole.
            plan: How to run; `None` for the best that memory allows.

        Raises:
            OutOfMemory: if memory does not suffice for any plan, or ran out twice.
        """
        self._failed = None
        source = source.to(self._steps[0].convolution.weight.dtype)
        source = source.contiguous(memory_format=torch.channels_last_3d)
        grid = grid_of(source)
        box = box or self.planner.everything(grid)
        if plan is not None:
            return self._carried_out(plan, source, sink, box, statistics)
        plans = self.planner.candidates(
            grid,
            box,
            has_statistics=statistics is not None,
            is_processor=source.device.type == "cpu",
        )
        plan = self._first_that_fits(plans, source.device)
        _log.debug("%s of %s: %s", self._verb, extent(box), plan)
        cause: BaseException
        try:
            return self._carried_out(plan, source, sink, box, statistics)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Without its traceback, whose frames hold the tensors that were in the way.
            cause = error.with_traceback(None)
        leaner = next((p for p in plans if p.needed_bytes < plan.needed_bytes), None)
        if leaner is None:
            raise self._too_little(plan, source.device) from cause
        if source.device.type == "cuda":
            torch.cuda.empty_cache()
        _log.warning("memory ran out for %s by %s; now by %s", self._verb, plan, leaner)
        try:
            return self._carried_out(leaner, source, sink, box, statistics)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._failed = leaner, list(plans)
            raise self._too_little(leaner, source.device) from error

    def _carried_out(
        self,
        plan: Plan,
        source: torch.Tensor,
        sink: Sink,
        box: Box,
        statistics: torch.Tensor | None,
    ) -> Ran:
        worker = Arithmetic(self._steps, statistics, sink, self._progress)
        grid = grid_of(source)
        sweep = Sweep(self._steps, worker, grid, box, planes=plan.planes, streamed=plan.streamed)
        sweep.run(source[slices(sweep.source_box, whole(grid))])
        return Ran(worker.statistics, plan)

    def _first_that_fits(self, plans: Iterator[Plan], device: torch.device) -> Plan:
        free = self._free(device)
        seen: list[Plan] = []
        for plan in plans:
            if self._ceiling is not None and plan.needed_bytes >= self._ceiling:
                continue
            if free is None or plan.needed_bytes <= free:
                return plan
            seen.append(plan)
        if not seen:
            msg = f"to {self._verb} this volume, no plan is left that needs less memory; ask for a "
            raise OutOfMemory(msg + "smaller one, or give it a larger device")
        leanest = min(seen, key=lambda plan: plan.cost.peak_bytes)
        if free is not None and leanest.cost.peak_bytes > free:
            raise self._too_little(leanest, device)
        return leanest

    def _too_little(self, plan: Plan, device: torch.device) -> OutOfMemory:
        free = self._free(device)
        msg = (
            f"to {self._verb} needs {mebibytes(plan.needed_bytes)} on `{device}` even by plan "
            f"`{plan.name}`, and {'an unknown number of' if free is None else mebibytes(free)} "
            "are free; end what else runs there, use another device, or ask for a smaller volume"
        )
        return OutOfMemory(msg)
