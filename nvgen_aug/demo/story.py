"""The demo from beginning to end: subjects, a resident generator, two runs, a report."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from ..assembly import serve
from ..card import VariantCard
from ..errors import DataError
from ..evaluation.drawing import check_drawing
from .blend import Blend
from .blend import recipe_for
from .dataset_folder import DatasetFolder
from .fit import Arm
from .fit import fit
from .outcome import Outcome
from .report import write_report
from .settings import Settings
from .subjects import Subjects
from .talk import Talk
from .task import Task

STAND_IN_VARIANT = "tiny-brain"
_SHOWN = 4


def run_demo(settings: Settings, talk: Talk) -> Outcome:
    """Train twice, compare, and write the report into `settings.out`.

    Args:
        settings: What was asked.
        talk: Who hears of the progress.

    Raises:
        NvgenError: for anything in settings or data that cannot be used.
    """
    begin = time.perf_counter()
    check_drawing()
    _check_device(settings.device)
    _check_out(settings.out)
    folder = None if settings.data is None else DatasetFolder.open(settings.data, settings.channel)
    talk.say(f"starting the resident generator `{settings.variant}` on {settings.device}")
    with serve(settings.variant, device=settings.device, cache=settings.cache_folder) as source:
        card = source.card
        if folder is None:
            task = Task.of_card(card, settings.modality)
        else:
            task = Task.of_folder(card, folder, settings.labels, settings.modality)
        subjects = _subjects(settings, card, task, folder, talk)
        talk.say(subjects.remark)
        blend = Blend(settings, task, subjects, source)
        forecast = blend.forecast(talk)
        talk.say(str(forecast))
        talk.say(
            f"two runs of {settings.schedule.steps} steps take about "
            f"{_minutes(forecast.seconds)} on this machine"
        )

        def train(name: str, ratio: float) -> Arm:
            data, schedule = blend.dataset(ratio), settings.schedule
            return fit(name, data, subjects.validation, task, schedule, talk)

        arms = train("real only", 0), train(f"{settings.ratio:.4g} synthetic", settings.ratio)
        supply = blend.supply(*arms)
        talk.say(str(supply))
        outcome = Outcome(
            settings=settings,
            card=card,
            task=task,
            subjects=subjects,
            arms=arms,
            forecast=forecast,
            supply=supply,
            synthetic=tuple(blend.shown(_SHOWN)),
            seconds=time.perf_counter() - begin,
        )
    try:
        write_report(outcome)
    except OSError as error:
        msg = (
            f"the report cannot be written to --out {settings.out} ({error.strerror}); make room "
            f"and run the same command again, the volumes are in {settings.cache_folder}"
        )
        raise DataError(msg) from error
    return outcome


def _subjects(
    settings: Settings,
    card: VariantCard,
    task: Task,
    folder: DatasetFolder | None,
    talk: Talk,
) -> Subjects:
    if folder is not None:
        return Subjects.scans(
            folder,
            task,
            most=settings.cases,
            channel=settings.channel,
            seed=settings.seed,
            talk=talk,
        )
    numbers = (settings.train_subjects, settings.validation_subjects)
    if card.name == "phantom":
        return Subjects.phantoms(task, recipe_for(card, task), *numbers, talk)
    if card.name == STAND_IN_VARIANT:
        return Subjects.stand_ins(task, *numbers, talk)
    msg = (
        f"there are no stand-ins for `{card.name}`; pass your own scans with --data DIR, or use "
        f"--variant {STAND_IN_VARIANT}"
    )
    raise DataError(msg)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"--device {device} cannot be used here ({reason}); choose cpu, or cuda with a GPU"
        raise DataError(msg) from error


def _check_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"--out {out} cannot be written ({error.strerror}); choose another folder"
        raise DataError(msg) from error


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
