"""Settings: what a demo was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path
from typing import Any
from typing import final

from ..errors import DataError
from ..share import share
from .fit import Schedule

EPOCHS = 10
STEPS = 240
_QUICK_EPOCHS = 2
_QUICK_STEPS = 6


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments of the demo.

    Args:
        out: Folder of the report.
        variant: Name of the generator.
        ratio: Share of synthetic volumes in the second run.
        steps: Optimizer steps of each run; `None` is 240, or 6 if quick.
        seed: Where everything random comes from.
        cache: Folder that keeps volumes; `None` is `cache` inside `out`.
        data: A dataset folder of the caller, or `None` for stand-ins.
        labels: `NAME=ID` for that folder.
        channel: Which channel of its images.
        cases: How many of its cases at most.
        modality: Contrast of the synthetic volumes; `None` is the variant's default.
        workers: Loader processes.
        device: Where generator and segmenter run.
        max_reuse: How often each volume is trained on.
        quick: A few steps on a few subjects, to see that everything runs.
    """

    out: Path = Path("demo-report")
    variant: str = "tiny-brain"
    ratio: float = 0.3
    steps: int | None = None
    seed: int = 0
    cache: Path | None = None
    data: Path | None = None
    labels: tuple[str, ...] = ()
    channel: int = 0
    cases: int = 16
    modality: str | None = None
    workers: int = 1
    device: str = "cpu"
    max_reuse: int = 3
    quick: bool = False

    def __post_init__(self) -> None:
        share(self.ratio)
        if self.steps is not None and self.steps < 1:
            msg = f"steps must be a positive integer, got {self.steps}"
            raise DataError(msg)
        if self.labels and self.data is None:
            msg = "--labels says what the ids of your own data mean, so it needs --data DIR"
            raise DataError(msg)

    @property
    def cache_folder(self) -> Path:
        """Where volumes are kept between runs."""
        return self.out / "cache" if self.cache is None else self.cache

    @property
    def train_subjects(self) -> int:
        """Stand-ins to train on."""
        return 4 if self.quick else 12

    @property
    def validation_subjects(self) -> int:
        """Stand-ins to validate on."""
        return 2 if self.quick else 4

    @property
    def schedule(self) -> Schedule:
        """What both runs have in common."""
        steps = self.steps or (_QUICK_STEPS if self.quick else STEPS)
        epochs = min(_QUICK_EPOCHS if self.quick else EPOCHS, steps)
        # The most epochs up to that number that divide the steps: no step is added or dropped.
        epochs = next(number for number in range(epochs, 0, -1) if steps % number == 0)
        return Schedule(
            epochs=epochs,
            steps_per_epoch=steps // epochs,
            workers=self.workers,
            seed=self.seed,
            device=self.device,
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, with what they came to."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        schedule = self.schedule
        return {
            **values,
            "out": str(self.out),
            "cache": str(self.cache_folder),
            "data": None if self.data is None else str(self.data),
            "labels": list(self.labels),
            "epochs": schedule.epochs,
            "steps": schedule.steps,
            "batch_size": schedule.batch_size,
            "learning_rate": schedule.learning_rate,
        }
