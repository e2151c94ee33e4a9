"""Blend: the demo's real and synthetic volumes, bound together by one plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import final

from torch.utils.data import Dataset

from ..card import VariantCard
from ..data.synthetic import SyntheticDataset
from ..data.synthetic_real import SyntheticRealDataset
from ..labels import LabelMap
from ..pathology import Lesions
from ..recipe import Recipe
from ..source import VolumeSource
from .fit import Arm
from .fit import augmentation
from .fit import seconds_of_a_step
from .planned_source import PlannedSource
from .settings import Settings
from .subjects import Subjects
from .subjects import clone
from .subjects import same_scale
from .supply import Forecast
from .supply import Supply
from .talk import Talk
from .task import Task

_TIMED = 2  # the first volume of a process takes longer than all others
_LESIONS = (0, 6)
_DIAMETERS = (5.0, 20.0)  # mm, those of the stand-ins


def recipe_for(card: VariantCard, task: Task) -> Recipe:
    """Volumes in the task's contrast, with 0 to 6 lesions of the kinds that the task knows."""
    least, most = card.pathology_range
    low, high = (min(max(mm, least), most) for mm in _DIAMETERS)
    wanted = [name for name in card.pathology if name in task.synthetic]
    return Recipe(
        modality=task.modality,
        size=task.size,
        spacing=task.spacing,
        pathology={name: Lesions(_LESIONS, (low, high)) for name in wanted},
    )


@final
class Blend:
    """One pool of real and one of synthetic volumes, from which both runs draw.

    The k-th real draw is the same case in both runs, and the first volumes of the
    plan are those that the forecast has timed, so nothing is made in vain.

    Args:
        settings: Share, seed and schedule.
        task: Classes and grid.
        subjects: The real side.
        source: The synthetic side.
    """

    def __init__(
        self, settings: Settings, task: Task, subjects: Subjects, source: VolumeSource
    ) -> None:
        self.settings = settings
        self.task = task
        self.source = source
        self._real = _InMemory(subjects.train)
        self._synthetic = self._volumes(source)
        planned = {self._synthetic.spec(number) for number in self.planned()}
        self._synthetic = self._volumes(PlannedSource(source, planned))
        self._before = source.stats()

    def dataset(self, ratio: float) -> SyntheticRealDataset:
        """What a run with this share of synthetic volumes trains on."""
        return SyntheticRealDataset(
            self._real,
            self._synthetic,
            ratio=ratio,
            transform=augmentation(),
            epoch_length=self.settings.schedule.epoch_length,
            seed=self.settings.seed,
        )

    def planned(self) -> list[int]:
        """Number of the volume of each synthetic draw of the blended run, in order."""
        train, schedule = self.dataset(self.settings.ratio), self.settings.schedule
        return [
            key.index
            for epoch in range(schedule.epochs)
            for key in train.plan(epoch, batch_size=schedule.batch_size)
            if key.is_synthetic
        ]

    def shown(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        """The first volumes of the plan, as the network sees them, each with a caption."""
        shown = []
        for volume in list(dict.fromkeys(self.planned()))[:number]:
            spec = self._synthetic.spec(volume)
            lesions = ", ".join(f"{mm:g}" for _, mm in spec.pathology)
            caption = f"lesions asked: {lesions} mm" if lesions else "no lesion asked"
            shown.append((caption, self._synthetic.item(volume)))
        return shown

    def forecast(self, talk: Talk) -> Forecast:
        """Time a step and the first volumes of the plan, and say what the rest will take."""
        schedule = self.settings.schedule
        draws = self.planned()
        distinct = list(dict.fromkeys(draws))
        with talk.track("timing a step, then a volume", 2) as advance:
            seconds_per_step = seconds_of_a_step(self.task, schedule)
            advance("")
            there = self._fetch_until_made(distinct)
            advance("")
        stats = self.source.stats()
        made = stats.generated - self._before.generated
        return Forecast(
            draws=len(draws),
            distinct=len(distinct),
            missing=len(distinct) - there,
            draws_per_step=len(draws) / schedule.steps,
            seconds_per_step=seconds_per_step,
            seconds_per_volume=(stats.seconds_generating - self._before.seconds_generating)
            / max(1, made),
            steps=schedule.steps,
            is_shared=schedule.device == "cpu",
        )

    def supply(self, real: Arm, blended: Arm) -> Supply:
        """What became of the forecast."""
        stats = self.source.stats()
        generated = stats.generated - self._before.generated
        seconds = stats.seconds_generating - self._before.seconds_generating
        distinct = len(set(blended.volumes))
        busy = blended.seconds - blended.waiting
        return Supply(
            draws=len(blended.volumes),
            distinct=distinct,
            generated=generated,
            from_cache=max(0, distinct - generated),
            seconds_generating=seconds,
            seconds_per_volume=seconds / generated if generated else 0.0,
            demand_per_second=len(blended.volumes) / busy if busy else 0.0,
            supply_per_second=generated / seconds if seconds else 0.0,
            seconds_waiting=blended.waiting,
            seconds_waiting_real=real.waiting,
        )

    def _fetch_until_made(self, numbers: Sequence[int]) -> int:
        """Fetch volumes until two had to be made, and say how many were there before the first.

        Volumes are made in the order of the plan, so an earlier run, finished or not,
        left the first ones of it.
        """
        there, before = len(numbers), self._before.generated
        for place, number in enumerate(numbers):
            self._synthetic.volume(number)
            made = self.source.stats().generated - before
            there = min(there, place) if made else there
            if made >= _TIMED:
                break
        return there

    def _volumes(self, source: VolumeSource) -> SyntheticDataset:
        return SyntheticDataset(
            source,
            recipe_for(source.card, self.task),
            labels=LabelMap(self.task.synthetic, others="background"),
            transform=same_scale(),
            max_reuse=self.settings.max_reuse,
            seed=self.settings.seed,
        )


@final
class _InMemory(Dataset[dict[str, Any]]):
    """Items that were made before, copied so that augmentation cannot change them."""

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, case: int) -> dict[str, Any]:
        return clone(self._items[case])
