"""Report: the outcome of a demo as a page to look at, a record to compute with, and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..evaluation.contact_sheet import SheetRow
from ..evaluation.contact_sheet import contact_sheet
from ..evaluation.drawing import COLOURS
from ..evaluation.page import Page
from ..evaluation.page import facts
from ..evaluation.page import heading
from ..evaluation.page import keys
from ..evaluation.page import picture
from ..evaluation.page import table
from ..record import RunRecord
from .charts import dice_chart
from .charts import loss_chart
from .outcome import Outcome

PAGE = "report.html"
RECORD = "report.json"
PICTURE = "real-and-synthetic.png"
_ROWS = 4


def write_report(outcome: Outcome) -> Path:
    """Write the picture, `report.json` and `report.html` into the outcome's folder.

    Each appears whole or not at all, and the page last: where it is, the others are.

    Returns:
        The page.
    """
    out = outcome.settings.out
    sheet = _picture(outcome, out / PICTURE)
    record = outcome.record()
    record.write(out / RECORD)
    page = Page(
        "Training with real and synthetic volumes",
        f"nvgen_aug demo · generator {outcome.card.name} · {record.when}",
    )
    page.notice(outcome.caveats())
    page.tiles(_tiles(outcome))
    page.section(
        "Real and synthetic side by side",
        f"Left the real side ({outcome.subjects.kind}s), right what the generator made, each over "
        "its own range of grey; plain and with its label, the pair that the network is trained on.",
        picture(sheet, "Real volumes on the left and synthetic ones on the right, with labels"),
    )
    legend = keys(list(zip(COLOURS, (arm.name for arm in outcome.arms), strict=True)))
    page.section(
        "Curves",
        f"Both runs begin with the same weights, see the real cases in the same order and make "
        f"{outcome.arms[0].steps} optimizer steps.",
        legend,
        heading("Training loss (Dice + cross-entropy): every step, and a running mean"),
        loss_chart(outcome.arms),
        heading("Dice on the validation volumes after each epoch"),
        dice_chart(outcome.arms),
    )
    page.section(
        "Dice after the last epoch",
        f"Mean over {len(outcome.subjects.validation)} validation volumes that neither run was "
        "trained on. It is here to show that both runs learn; the difference between the columns "
        "means nothing by itself.",
        _dice_table(outcome),
    )
    page.section(
        "Asked and delivered share",
        "Counted in the batches as they arrived. The share is exact: after any number of batches "
        "the count is less than one sample away from what was asked.",
        _share_table(outcome),
    )
    page.section(
        "Demand and supply of synthetic volumes",
        f"Expected before the runs: {outcome.forecast}. What came of it:",
        _supply(outcome),
    )
    page.section("Settings", "", facts(_settings(record)))
    page.section("Versions", "", facts(_versions(record)))
    return page.write(out / PAGE)


def _picture(outcome: Outcome, path: Path) -> Path:
    task = outcome.task
    real = [
        _row(f"real · {outcome.subjects.kind} {k}", "", item, task.spacing)
        for k, item in enumerate(outcome.subjects.train[:_ROWS], start=1)
    ]
    synthetic = [
        _row(f"synthetic · {outcome.card.name} {k}", caption, item, task.spacing)
        for k, (caption, item) in enumerate(outcome.synthetic[:_ROWS], start=1)
    ]
    if not synthetic:
        return contact_sheet(real, path, names=task.classes, columns=2, height=150, beside=True)
    # Row by row, so that a real volume stands to the left of each synthetic one.
    pairs = [row for pair in zip(real, synthetic, strict=False) for row in pair]
    return contact_sheet(pairs, path, names=task.classes, columns=2, height=150, beside=True)


def _row(
    title: str, caption: str, item: dict[str, object], spacing: tuple[float, float, float]
) -> SheetRow:
    image, label = (np.asarray(item[key])[0] for key in ("image", "label"))
    # Normalised images have 0 outside; shown as their darkest value, it is black again.
    image = np.where(image == 0, image.min(), image)
    shape = " × ".join(map(str, image.shape))
    caption = caption or f"{shape} voxels of {' × '.join(f'{mm:g}' for mm in spacing)} mm"
    return SheetRow(title, image, label.astype(np.uint8), caption, spacing)


def _tiles(outcome: Outcome) -> list[tuple[str, str]]:
    blended, supply = outcome.arms[1], outcome.supply
    samples = sum(epoch.samples for epoch in blended.epochs)
    return [
        (f"{float(100 * blended.ratio):.4g}%", "synthetic share asked"),
        (f"{supply.draws / samples:.1%}", f"delivered: {supply.draws} of {samples} samples"),
        (str(supply.distinct), f"distinct volumes, {supply.reused} draws reused one"),
        (str(supply.generated), f"generated now, {supply.from_cache} were in the cache"),
        (f"{supply.seconds_waiting:.0f} s", "the blended run waited for batches"),
        (f"{outcome.seconds / 60:.1f} min", "for the whole demo"),
    ]


def _dice_table(outcome: Outcome) -> str:
    last = [arm.epochs[-1] for arm in outcome.arms]
    rows = [[name, *(_score(epoch.dice[name]) for epoch in last)] for name in outcome.task.names]
    rows.append(["mean", *(_score(epoch.mean_dice) for epoch in last)])
    return table(["class", *(arm.name for arm in outcome.arms)], rows)


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def _share_table(outcome: Outcome) -> str:
    real, blended = outcome.arms
    rows = []
    samples, synthetic, asked = 0, 0, 0.0
    seen: set[str] = set()
    for number, (epoch, other) in enumerate(zip(blended.epochs, real.epochs, strict=True), 1):
        drawn = blended.volumes[synthetic : synthetic + epoch.synthetic]
        new = len(set(drawn) - seen)
        seen.update(drawn)
        samples, synthetic, asked = (
            samples + epoch.samples,
            synthetic + epoch.synthetic,
            asked + epoch.asked,
        )
        rows.append(
            [
                str(number),
                f"{epoch.asked:.1f} of {epoch.samples}",
                f"{epoch.synthetic} of {epoch.samples}",
                f"{asked:.1f}",
                f"{synthetic} of {samples} = {synthetic / samples:.1%}",
                f"{new} / {epoch.synthetic - new}",
                f"{epoch.waiting:.1f} s of {epoch.seconds:.1f} s",
                f"{other.waiting:.1f} s of {other.seconds:.1f} s",
            ]
        )
    head = ["epoch", "asked", "delivered", "asked so far", "delivered so far"]
    head += ["new / reused volumes", "waiting, blended", "waiting, real only"]
    return table(head, rows)


def _supply(outcome: Outcome) -> str:
    supply = outcome.supply
    per_volume = f"{supply.seconds_per_volume:.2f} s" if supply.generated else "none was made"
    rows = [
        ("synthetic draws", str(supply.draws)),
        ("distinct volumes", str(supply.distinct)),
        (
            "draws that reused a volume",
            f"{supply.reused} (at most {outcome.settings.max_reuse} uses each)",
        ),
        ("volumes generated in this run", str(supply.generated)),
        ("volumes from the cache of an earlier run", str(supply.from_cache)),
        ("cache hits (draws that cost no generation)", str(supply.cache_hits)),
        ("time of a generation", per_volume),
        ("time the generator was busy", f"{supply.seconds_generating:.1f} s"),
        (
            "demand while training, not waiting",
            f"{supply.demand_per_second:.2f} volumes/s",
        ),
        (
            "supply while generating",
            f"{supply.supply_per_second:.2f} volumes/s" if supply.generated else "the cache",
        ),
        ("waiting for batches, blended run", f"{supply.seconds_waiting:.1f} s"),
        ("waiting for batches, real-only run", f"{supply.seconds_waiting_real:.1f} s"),
    ]
    return facts(rows)


def _settings(record: RunRecord) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _text(value)) for name, value in record.settings.items()]


def _versions(record: RunRecord) -> list[tuple[str, str]]:
    values = asdict(record)
    rows = list(values["packages"].items())
    rows += [("code revision", values["revision"] or "not a git checkout")]
    rows += [(name, _text(value)) for name, value in values["device"].items()]
    return rows


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "–"
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)
