"""Outcome: everything a demo came to, in one place, for the report and the record."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import final

from ..card import VariantCard
from ..record import RunRecord
from .fit import Arm
from .settings import Settings
from .subjects import Subjects
from .supply import Forecast
from .supply import Supply
from .task import Task


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A finished demo.

    Args:
        settings: What was asked.
        card: The generator.
        task: What was learnt.
        subjects: The real side.
        arms: The run on real volumes only, and the blended one.
        forecast: What was expected of the generator.
        supply: What it gave.
        synthetic: A few synthetic items, each with a caption.
        seconds: Time of the whole demo up to the report.
    """

    settings: Settings
    card: VariantCard
    task: Task
    subjects: Subjects
    arms: tuple[Arm, Arm]
    forecast: Forecast
    supply: Supply
    synthetic: tuple[tuple[str, dict[str, Any]], ...]
    seconds: float

    def caveats(self) -> list[str]:
        """What the numbers are not, in plain sentences."""
        sentences = [self.subjects.remark]
        if self.subjects.kind != "scan":
            sentences.append(
                "Stand-ins and generator share one template, so the curves below show that the "
                "plumbing works, not that synthetic data help."
                if self.subjects.kind == "stand-in"
                else "Subjects and generator are the same ellipsoids, so the curves below show "
                "that the plumbing works, not that synthetic data help."
            )
        sentences.append(
            "Each curve is one run of a small network with one seed; one run proves no benefit, "
            "and no harm either. A study needs several seeds, held-out patients and a plan."
        )
        return sentences

    def record(self) -> RunRecord:
        """The outcome as numbers, traceable to code, packages and machine."""
        real, blended = self.arms
        return RunRecord(
            name="nvgen_aug.demo",
            settings={
                **self.settings.to_dict(),
                "modality": self.task.modality,
                "size": list(self.task.size),
                "spacing": list(self.task.spacing),
                "classes": list(self.task.names),
                "weights_digest": self.card.weights_digest,
                "generator_revision": self.card.generator_revision,
            },
            numbers={
                "subjects": {
                    "kind": self.subjects.kind,
                    "train": len(self.subjects.train),
                    "validation": len(self.subjects.validation),
                },
                "real_only": _arm(real),
                "blended": _arm(blended),
                "forecast": asdict(self.forecast),
                "synthetic": self.supply.to_dict(),
                "seconds": self.seconds,
                "caveats": self.caveats(),
            },
        )


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "ratio": float(arm.ratio),
        "steps": arm.steps,
        "loss_by_step": list(arm.losses),
        "epochs": [{**asdict(epoch), "mean_dice": epoch.mean_dice} for epoch in arm.epochs],
        "asked": sum(epoch.asked for epoch in arm.epochs),
        "delivered": sum(epoch.synthetic for epoch in arm.epochs),
        "samples": sum(epoch.samples for epoch in arm.epochs),
        "seconds": arm.seconds,
        "seconds_waiting": arm.waiting,
        "seconds_per_step": arm.seconds_per_step,
        "real_order": list(arm.real_order),
        "volumes": list(arm.volumes),
    }
