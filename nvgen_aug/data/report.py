"""BlendReport: the share that was asked and delivered, and how volumes were reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import final

from ..source import SourceStats
from .exposure import Exposure
from .exposure import Held
from .exposure import exposures
from .plan import Plan


@final
@dataclass(frozen=True, slots=True)
class EpochShare:
    """What one epoch holds by plan, all ranks together.

    Args:
        epoch: Number of the epoch.
        samples: Samples.
        synthetic: Synthetic ones among them.
        asked: Share that was asked for in this epoch; what was delivered is less than
            one sample away from it.
        distinct_volumes: New volumes that are used for the first time.
        reused: Synthetic samples that use a volume again.
        repeated: Real cases that are repeated in the place of synthetic samples, in a
            control that fills strata with real cases.
    """

    epoch: int
    samples: int
    synthetic: int
    asked: float
    distinct_volumes: int
    reused: int
    repeated: int = 0

    @property
    def delivered(self) -> float:
        """Share of synthetic samples in this epoch."""
        return self.synthetic / self.samples if self.samples else 0.0


@final
@dataclass(frozen=True, slots=True)
class FailureCount:
    """What went wrong so far, and what stood in.

    Args:
        failed: Volumes that were asked for and could not be made, each time anew.
        by_volume: Samples that show another volume in place of the planned one.
        by_real: Samples that show a real case in place of the planned volume, so that
            the share of synthetic ones is lower than planned.
    """

    failed: int = 0
    by_volume: int = 0
    by_real: int = 0


@final
@dataclass(frozen=True, slots=True)
class BlendReport:
    """What a run was asked for, and what its plan holds up to the current epoch.

    The plan is exact, so these are the numbers of any loader that walks it to the
    end. What it cost (generations, cache hits) is in `source`.

    Args:
        asked: Share of synthetic samples that was asked for, over all these epochs.
        epochs: One entry per epoch, the current one included.
        max_reuse: Uses of each volume.
        failures: Volumes that failed in this process and the workers of its loaders, and
            what stood in; other ranks report their own.
        source: What the source has done so far, or `None` if there is none or it is gone.
        strata: What each condition of the goal was asked to be shown, and is.
        held: For each condition, what the labels of the synthetic samples show that were
            loaded, in all workers of this process.
    """

    asked: float
    epochs: tuple[EpochShare, ...]
    max_reuse: int
    failures: FailureCount
    source: SourceStats | None
    strata: tuple[Exposure, ...] = ()
    held: Mapping[str, Held] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples of all epochs."""
        return sum(epoch.samples for epoch in self.epochs)

    @property
    def synthetic(self) -> int:
        """Synthetic samples of all epochs."""
        return sum(epoch.synthetic for epoch in self.epochs)

    @property
    def delivered(self) -> float:
        """Share of synthetic samples over all epochs."""
        return self.synthetic / self.samples if self.samples else 0.0

    @property
    def distinct_volumes(self) -> int:
        """Different volumes of all epochs."""
        return sum(epoch.distinct_volumes for epoch in self.epochs)

    @property
    def reused(self) -> int:
        """Synthetic samples that use a volume again, of all epochs."""
        return sum(epoch.reused for epoch in self.epochs)

    @property
    def repeated(self) -> int:
        """Real cases in the place of synthetic samples, of all epochs."""
        return sum(epoch.repeated for epoch in self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = asdict(self)
        values["strata"] = [{**asdict(row), "delivered": row.delivered} for row in self.strata]
        values["epochs"] = [
            {**asdict(epoch), "delivered": epoch.delivered} for epoch in self.epochs
        ]
        sums = ("samples", "synthetic", "delivered", "distinct_volumes", "reused", "repeated")
        for name in sums:
            values[name] = getattr(self, name)
        return values

    def __str__(self) -> str:
        lines = [
            f"asked {self.asked:.2%} synthetic, delivered {self.delivered:.2%}: "
            f"{self.synthetic} of {self.samples} samples in {self._epochs()}",
            f"{self.distinct_volumes} distinct volumes, {self.reused} uses again "
            f"(at most {self.max_reuse} uses each)",
        ]
        if self.repeated:
            lines = [
                f"control without synthetic samples: {self.repeated} of {self.samples} samples in "
                f"{self._epochs()} repeat real cases in their place"
            ]
        lines += [self._exposure(row) for row in self.strata]
        if self.failures.failed:
            lines.append(
                f"{self.failures.failed} volumes failed in this process and its workers; in their "
                f"place stood another volume in {self.failures.by_volume} samples"
            )
        if self.failures.by_real:
            lines.append(
                f"{self.failures.by_real} synthetic samples were real cases instead: the share "
                "was lower than planned"
            )
        if self.source is not None:
            lines.append(
                f"source: {self.source.generated} generated in "
                f"{self.source.seconds_generating:.1f} s, {self.source.hits} cache hits, "
                f"{self.source.failures} failures"
            )
            if self.source.rejected:
                counts = ", ".join(f"{n} × {r}" for r, n in sorted(self.source.rejected.items()))
                lines.append(f"volumes thrown away by the source's checks: {counts}")
        return "\n".join(lines)

    def _epochs(self) -> str:
        number = len(self.epochs)
        return "1 epoch" if number == 1 else f"{number} epochs"

    def _exposure(self, row: Exposure) -> str:
        kind = "repeated" if self.repeated else "synthetic"
        text = (
            f"{row.condition}: asked in {row.asked:.2%} of the samples, shown in "
            f"{row.delivered:.2%}: {row.real} real and {row.drawn} {kind}"
        )
        held = self.held.get(row.condition)
        if held is not None and held.asked + held.others:
            text += f"; {held}"
        return f"{text}; not met: {row.unmet}" if row.unmet else text


def blend_report(
    plan: Plan,
    epochs: int,
    *,
    failures: FailureCount | None = None,
    source: SourceStats | None = None,
    held: Mapping[str, Held] | None = None,
) -> BlendReport:
    """What the first `epochs` of a plan hold."""
    samples = epochs * plan.samples_per_rank * plan.world_size
    asked = plan.world_size * plan.mix.asked(epochs)
    tallies = plan.standing(epochs).tallies
    return BlendReport(
        asked=0.0 if plan.fills_with_real else float(asked / samples),
        epochs=tuple(_epoch_share(plan, epoch) for epoch in range(epochs)),
        max_reuse=plan.max_reuse,
        failures=failures or FailureCount(),
        source=source,
        strata=exposures(tallies, samples, asked, fills_with_real=plan.fills_with_real),
        held=held or {},
    )


def _epoch_share(plan: Plan, epoch: int) -> EpochShare:
    samples = plan.samples_per_rank * plan.world_size
    drawn = plan.synthetic_in_epoch(epoch)
    if plan.fills_with_real:
        return EpochShare(epoch, samples, 0, 0.0, 0, 0, repeated=drawn)
    distinct = plan.distinct_volumes(epoch + 1) - plan.distinct_volumes(epoch)
    asked = float(plan.asked_in_epoch(epoch) / samples)
    return EpochShare(epoch, samples, drawn, asked, distinct, drawn - distinct)
