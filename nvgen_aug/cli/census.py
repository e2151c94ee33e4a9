"""`nvgen-aug census`: which classes and lesions a dataset shows, and how large they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from ..errors import DataError
from ..pathology import Lesions
from .meter import Meter
from .terminal import answer
from .terminal import hint
from .terminal import interruptible
from .terminal import say

if TYPE_CHECKING:
    from ..data.census import Census


def census(
    data: Annotated[
        Path, typer.Argument(help="A folder with dataset.json, imagesTr and labelsTr.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep the counts in this JSON file; cases whose label files are as before are "
            "then not counted again."
        ),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Resample labels to this voxel edge in mm first, as your training does.",
            show_default="as they are",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Print the sizes of this class as a recipe's TOML, instead of the table.",
        ),
    ] = None,
) -> None:
    """Count classes, lesions and their sizes in a dataset: which ones are rare?

    The folder has the layout of the Medical Segmentation Decathlon or of nnU-Net. A
    lesion is a connected region of its class; its size is the diameter of the ball of
    the same volume. In code, `nvgen_aug.census` counts any dataset that training uses.

    \b
    Example:
      nvgen-aug census Task03_Liver/ --out census.json
      nvgen-aug plan --census census.json --ratio 0.3 --goal "cancer < 10 mm=0.2"
      nvgen-aug census Task03_Liver/ --recipe cancer > recipe.toml
    """
    # Heavy, and `--help` does without.
    import monai.transforms as mt
    from monai.data import Dataset

    from ..data.counting import census as count
    from ..demo.dataset_folder import DatasetFolder

    folder = DatasetFolder.open(data)
    if not folder.labels:
        msg = f"{data / 'dataset.json'} names no label but background, so nothing can be counted"
        raise DataError(msg)
    chain = [mt.LoadImaged("label"), mt.EnsureChannelFirstd("label")]
    if spacing is not None:
        chain.append(mt.Spacingd("label", (spacing,) * 3, mode="nearest"))
    real = Dataset([{"label": str(case.label)} for case in folder.cases], mt.Compose(chain))
    with (
        interruptible("nothing was written, and the same command starts again"),
        Meter("counting", len(folder.cases), "case") as meter,
    ):
        found = count(real, folder.labels, path=out, report=lambda done, total: meter.advance())
    answer(str(found).splitlines() if recipe is None else _as_recipe(found, recipe))
    if out is not None:
        say(f"the counts are in {out}")
    hint(f"what would close a gap: nvgen-aug plan --census {out or 'FILE'} --goal CONDITION=SHARE")


def _as_recipe(found: Census, name: str) -> list[str]:
    """The section of a recipe whose lesions have the counted sizes."""
    lesions = Lesions(measured=found.diameters(name))
    assert lesions.measured is not None
    known = ", ".join(f"p{at} = {lesions.percentile(at):.1f} mm" for at in (10, 30, 50, 70, 90))
    return [
        f"[pathology.{json.dumps(name)}]  # rename it to the label of the variant",
        f"# {known}",
        'sizes = { "< p30" = 0.3, ">= p30" = 0.7 }  # as counted; give rare sizes more',
        f"measured = [{', '.join(f'{size:.1f}' for size in lesions.measured)}]",
    ]
