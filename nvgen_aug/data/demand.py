"""Demand: how many new volumes a plan needs, against how many a generator makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from ..errors import DataError
from .plan import Plan


@final
@dataclass(frozen=True, slots=True)
class Demand:
    """What the first epochs of a plan need of a generator.

    Args:
        steps: Optimizer steps, that is global batches.
        samples: Samples, all ranks together.
        draws: Synthetic ones among them.
        volumes: Different volumes among these, each of which is made once.
    """

    steps: int
    samples: int
    draws: int
    volumes: int

    @property
    def draws_per_step(self) -> float:
        """Synthetic samples of a step, on average."""
        return self.draws / self.steps

    @property
    def volumes_per_step(self) -> float:
        """New volumes of a step, on average."""
        return self.volumes / self.steps

    def seconds_generating(self, seconds_per_volume: float) -> float:
        """Time that one generator needs for all volumes."""
        return self.volumes * _seconds("seconds_per_volume", seconds_per_volume)

    def least_seconds_per_step(self, seconds_per_volume: float) -> float:
        """How long a step must take for one generator to keep up, on average."""
        return self.seconds_generating(seconds_per_volume) / self.steps

    def least_reuse(self, seconds_per_volume: float, seconds_per_step: float) -> int:
        """How often each volume must be used, in a long run, for one generator to keep up."""
        most = _seconds("seconds_per_step", seconds_per_step) / seconds_per_volume
        return max(1, math.ceil(round(self.draws_per_step / most, 9)))

    def __str__(self) -> str:
        if not self.draws:
            return "demand: no volume, nothing synthetic is drawn in all these epochs"
        return (
            f"demand: {self.volumes} volumes for {self.draws} synthetic samples in {self.steps} "
            f"steps: {self.volumes_per_step:.3g} new volumes per step"
        )


def demand_of(plan: Plan, epochs: int) -> Demand:
    """The demand of the first epochs of a plan."""
    draws = 0 if plan.fills_with_real else plan.mix.synthetic_before(epochs)
    return Demand(
        steps=epochs * plan.batches,
        samples=epochs * plan.samples_per_rank * plan.world_size,
        draws=draws,
        volumes=plan.distinct_volumes(epochs),
    )


def _seconds(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        msg = f"{name} must be a positive number of seconds, got {value!r}"
        raise DataError(msg)
    return value
