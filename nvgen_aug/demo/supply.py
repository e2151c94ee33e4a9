"""Supply: how many synthetic volumes training asked for, and how many the generator gave."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Forecast:
    """What the plan needs and what the machine gives, before the run.

    Args:
        draws: Synthetic samples of the whole run.
        distinct: Different volumes among them.
        missing: Those that no earlier run left in the cache.
        draws_per_step: Synthetic samples of one optimizer step, on average.
        seconds_per_step: Time of an optimizer step.
        seconds_per_volume: Time of a generation; 0 if none was needed yet.
        steps: Optimizer steps of one run.
        is_shared: Whether generator and training share the processor, so that
            neither gets on while the other works.
    """

    draws: int
    distinct: int
    missing: int
    draws_per_step: float
    seconds_per_step: float
    seconds_per_volume: float
    steps: int
    is_shared: bool = True

    @property
    def demand(self) -> float:
        """Synthetic volumes that training takes each second if it never waits."""
        return self.draws_per_step / self.seconds_per_step

    @property
    def supply(self) -> float:
        """Volumes that the generator makes each second; 0 if unknown."""
        return 1 / self.seconds_per_volume if self.seconds_per_volume else 0.0

    @property
    def seconds_waiting(self) -> float:
        """Expected time that training waits for volumes.

        Each volume is used once before any is used again, so all are made in the
        beginning, while training needs a new one with every synthetic draw.
        """
        if not self.missing or not self.draws_per_step:
            return 0.0
        making = self.missing * self.seconds_per_volume
        if self.is_shared:
            return making
        return max(0.0, making - self.missing / self.draws_per_step * self.seconds_per_step)

    @property
    def seconds(self) -> float:
        """Expected time of both runs."""
        return 2 * self.steps * self.seconds_per_step + self.seconds_waiting

    def __str__(self) -> str:
        if not self.draws:
            return "demand 0 volumes/s: the share is 0, so nothing is generated"
        demand = f"demand {self.demand:.2g} volumes/s"
        if not self.missing:
            return (
                f"{demand}, supply from the cache: all {self.distinct} volumes of this run are "
                "there → nothing is generated"
            )
        supply = f"supply {self.supply:.2g} volumes/s ({self.seconds_per_volume:.2g} s each)"
        made = f"{self.missing} of {self.distinct} volumes to make for {self.draws} draws"
        waiting = (
            f"training waits about {self.seconds_waiting:.0f} s for them"
            if self.seconds_waiting >= 1
            else "training need not wait"
        )
        return f"{demand}, {supply} → {made}; {waiting}"


@final
@dataclass(frozen=True, slots=True)
class Supply:
    """What became of it.

    Args:
        draws: Synthetic samples that were trained on.
        distinct: Different volumes among them.
        generated: Volumes that the model made in this run.
        from_cache: Different volumes that were there already, from an earlier run.
        seconds_generating: Time that the model was busy.
        seconds_per_volume: Mean time of a generation, 0 without one.
        demand_per_second: Synthetic volumes that training took each second when it
            did not wait.
        supply_per_second: Volumes that the model made each second while busy.
        seconds_waiting: Time that the blended run waited for batches.
        seconds_waiting_real: The same of the real-only run, for comparison.
    """

    draws: int
    distinct: int
    generated: int
    from_cache: int
    seconds_generating: float
    seconds_per_volume: float
    demand_per_second: float
    supply_per_second: float
    seconds_waiting: float
    seconds_waiting_real: float

    @property
    def reused(self) -> int:
        """Draws that used a volume again."""
        return self.draws - self.distinct

    @property
    def cache_hits(self) -> int:
        """Draws that cost no generation in this run: volumes made before, in it or earlier."""
        return max(0, self.draws - self.generated)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        return {**asdict(self), "reused": self.reused, "cache_hits": self.cache_hits}

    def __str__(self) -> str:
        if not self.draws:
            return "no synthetic volume was asked for, none was generated"
        if not self.generated:
            return (
                f"{self.draws} synthetic draws from {self.distinct} distinct volumes, all from "
                f"the cache: nothing was generated; training waited {self.seconds_waiting:.0f} s"
            )
        return (
            f"{self.draws} synthetic draws from {self.distinct} distinct volumes; "
            f"{self.generated} generated in {self.seconds_generating:.0f} s, "
            f"{self.cache_hits} draws answered from the cache; "
            f"training waited {self.seconds_waiting:.0f} s"
        )
