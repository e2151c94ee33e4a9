"""`nvgen-aug generate`: volumes as NIfTI files, with a contact sheet to look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any
from typing import final

import numpy as np
import typer

from ..card import VariantCard
from ..data.seeds import volume_seed_of
from ..errors import DataError
from ..errors import SpecError
from ..grid import PATHOLOGY
from ..grid import GridCell
from ..organ_sizes import sizes_in
from ..pathology import Lesions
from ..recipe import Recipe
from ..source import VolumeSource
from ..spec import VolumeSpec
from .bids import BidsFolder
from .grid_files import factors_of
from .grid_files import write_table
from .terminal import answer
from .terminal import interruptible
from .terminal import progress
from .terminal import say
from .volume_files import VolumeFiles
from .volume_files import read_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..evaluation.contact_sheet import SheetRow

SHEET_ROWS = 24  # a sheet longer than this is scrolled through, not looked at


def generate(
    variant: Annotated[
        str, typer.Argument(help="Model, `phantom` among them, or the address of a server.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to; made if it is not there.")],
    num: Annotated[int, typer.Option(min=1, help="How many volumes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Where all chance comes from.")] = 0,
    modality: Annotated[
        list[str] | None, typer.Option(help="Contrast; given several times, one is drawn.")
    ] = None,
    lesions: Annotated[
        int | None, typer.Option(min=0, help="Lesions in each volume; a recipe says more.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML or YAML file with the arguments of a Recipe.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="TOML or YAML file with a recipe and a table `grid` of factors."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,VALUE",
            help="Make every combination of these values; given several times, all of all.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations of the flow: more is finer.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="NIfTI label map that the images must follow.")
    ] = None,
    organ_size: Annotated[
        list[str] | None,
        typer.Option(
            help="Size of an organ or a tumour in a mask that is drawn, 0 to 1 or -1 for absent: "
            "`liver=0.5`, or `liver=0.2:0.6` to draw one between; several times for several."
        ),
    ] = None,
    mask_steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations of the network that draws the mask.")
    ] = None,
    image_only: Annotated[
        bool, typer.Option("--image-only", help="Draw no mask: images without labels.")
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(help="Bank of masks, one for each volume; see nvgen-aug masks index."),
    ] = None,
    augment_mask: Annotated[
        bool, typer.Option("--augment-mask", help="Move and deform the tumour of a mask first.")
    ] = False,
    image: Annotated[
        Path | None,
        typer.Option(help="NIfTI image whose subject is shown in the contrast of --modality."),
    ] = None,
    allow_out_of_distribution: Annotated[
        bool, typer.Option("--allow-out-of-distribution", help="Make what was never trained for.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps volumes between runs.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; torch decides if not given.")
    ] = None,
    bids: Annotated[
        bool, typer.Option("--bids", help="Lay the folder out as a BIDS derivative dataset.")
    ] = False,
) -> None:
    """Make synthetic volumes and write them as NIfTI files.

    Each volume gets an int16 image, a uint8 label and a JSON sidecar, and all of
    them one contact-sheet.png. Volume k of a seed is the same whatever --num is.

    What the folder holds already is kept, so a run that was stopped goes on; a
    volume of other settings under the same name is replaced.

    With --vary or --grid, --num counts the draws; each draw is made with every combination
    of the factors, and all else in it stays the same, to the seed. grid.csv says which
    volume has which. A factor is a field of VolumeSpec, such as modality, spacing, size or
    guidance, or field_of_view in mm, or pathology.LABEL in mm (0: none).

    \b
    Example:
      nvgen-aug generate tiny-brain --num 4 --lesions 2 --out volumes/
      nvgen-aug generate rflow-ct --mask liver.nii.gz --num 4 --out volumes/
      nvgen-aug generate rflow-ct --organ-size "hepatic tumor=0.1:0.3" --out volumes/
      nvgen-aug generate rflow-ct --masks labels/ --num 4 --out volumes/
      nvgen-aug generate tiny-brain --vary pathology.lesion=0,8,16 --vary steps=4,8 --out grid/
      nvgen-aug generate tiny-brain --image t1.nii.gz --modality mri_t2_skull_stripped --out t2/
    """
    factors = factors_of(vary or [])
    wanted = Recipe.load(recipe) if recipe else Recipe()
    if grid is not None:
        if recipe is not None:
            msg = f"{grid} holds the recipe beside its grid; leave out --recipe"
            raise SpecError(msg)
        wanted, given = Recipe.load_grid(grid)
        factors = {**given, **factors}
    if modality:
        wanted = replace(wanted, modality=tuple(modality))
    if steps is not None:
        wanted = replace(wanted, steps=steps)
    if organ_size:
        wanted = replace(wanted, organ_sizes={**(wanted.organ_sizes or {}), **sizes_in(organ_size)})
    if mask_steps is not None:
        wanted = replace(wanted, mask_steps=mask_steps)
    if image_only:
        wanted = replace(wanted, image_only=True)
    if augment_mask:
        wanted = replace(wanted, augment_mask=True)
    if allow_out_of_distribution:
        wanted = replace(wanted, allow_out_of_distribution=True)
    with interruptible(f"whole volumes are in {out}; the same command makes the rest"):
        order = _Order(variant, wanted, lesions, num, seed, out, mask, masks, image, bids, factors)
        _generate(order, cache, device, threads)


@final
@dataclass(frozen=True, slots=True)
class _Order:
    variant: str
    recipe: Recipe
    lesions: int | None
    num: int
    seed: int
    out: Path
    mask: Path | None = None
    masks: Path | None = None
    image: Path | None = None
    bids: bool = False
    factors: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def with_arrays(self, source: VolumeSource) -> _Order:
        """The order whose recipe names mask and image, handed over to the source."""
        recipe = self.recipe
        for name, what, path in (("mask", "label map", self.mask), ("image", "image", self.image)):
            if path is not None:
                array, affine = read_array(path, what)
                given: dict[str, Any] = {
                    name: source.put(array, affine),
                    "size": recipe.size or array.shape,
                    "spacing": recipe.spacing or _edges(affine),
                }
                recipe = replace(recipe, **given)
        return replace(self, recipe=recipe)

    def volumes(self, source: VolumeSource) -> list[_Wanted]:
        """Each volume's files and resolved spec, checked before the first is made."""
        card = source.card
        recipe = self.recipe
        if self.lesions is not None:
            recipe = replace(recipe, pathology=_pathology(self.lesions, card), pathology_share=1.0)
        # As a SyntheticDataset numbers them, so that training finds them in the cache.
        seeds = [volume_seed_of(self.seed, k) for k in range(self.num)]
        if self.factors:
            grid = recipe.grid(self.factors, seeds=seeds, variant=card.name)
            say(f"{grid}")
            # The source binds what the card leaves open: the mask of a bank.
            cells = [replace(cell, spec=source.resolve(cell.spec)) for cell in grid.resolved(card)]
            names = [f"{self._name(card, cell.base)}_{cell.slug}" for cell in cells]
            if len({re.sub(r"[^A-Za-z0-9]", "", name) for name in names}) < len(names):
                names = [f"{name}_{place:04d}" for place, name in enumerate(names)]
            return [
                _Wanted(self._files(name, cell.spec), cell.spec, cell)
                for name, cell in zip(names, cells, strict=True)
            ]
        recipe.check(card)
        specs = [
            source.resolve(recipe.draw(np.random.default_rng(seed), variant=card.name))
            for seed in seeds
        ]
        return [
            _Wanted(self._files(self._name(card, k), spec), spec) for k, spec in enumerate(specs)
        ]

    @property
    def columns(self) -> int:
        """Volumes beside each other on the sheet: the values of the last factor."""
        return len(tuple(self.factors.values())[-1]) if self.factors else 1

    @property
    def heading(self) -> str:
        """What the rows and columns of the sheet are."""
        *rows, column = self.factors or [""]
        rows = [*(["draw"] if self.num > 1 or not rows else []), *rows]
        return f"columns: {column} - rows: {', '.join(rows)}" if self.factors else ""

    def _name(self, card: VariantCard, k: int) -> str:
        return f"{card.name}_seed{self.seed}_{k:04d}"

    def _files(self, name: str, spec: VolumeSpec) -> VolumeFiles:
        return BidsFolder(self.out).files(name, spec) if self.bids else VolumeFiles(self.out, name)


@final
@dataclass(frozen=True, slots=True)
class _Wanted:
    files: VolumeFiles
    spec: VolumeSpec
    cell: GridCell | None = None


def _edges(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel edges in mm."""
    x, y, z = (round(float(mm), 4) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def _pathology(number: int, card: VariantCard) -> dict[str, Lesions]:
    if not number:
        return {}
    if not card.pathology:
        msg = f"`{card.name}` cannot place lesions; leave out --lesions"
        raise SpecError(msg)
    low, high = Lesions().diameter
    least, most = card.pathology_range
    diameter = (min(max(low, least), most), max(min(high, most), least))
    return {card.pathology[0]: Lesions((number, number), diameter)}


def _generate(order: _Order, cache: Path | None, device: str, threads: int | None) -> None:
    # Heavy, and --help does without them.
    from ..assembly import open_source
    from ..evaluation.contact_sheet import contact_sheet

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    rows: list[SheetRow] = []
    made = 0
    with open_source(order.variant, device=device, cache=cache, masks=order.masks) as source:
        card = source.card
        volumes = order.with_arrays(source).volumes(source)
        if order.bids:
            BidsFolder(order.out).describe(card)
        cells = [(one.files, one.cell) for one in volumes if one.cell is not None]
        tables = [write_table(order.out, cells, card)] if cells else []
        shown = max(1, SHEET_ROWS // order.columns) * order.columns
        with progress() as bar:
            task = bar.add_task(f"`{card.name}`", total=len(volumes))
            for one in volumes:
                if not one.files.hold(card.volume_key(one.spec)):
                    one.files.write(source.fetch(one.spec), one.spec, card)
                    made += 1
                if len(rows) < shown:
                    rows.append(_row(one))
                bar.advance(task)
    names = {value: name for name, value in card.vocabulary.items() if value}
    try:
        sheet = contact_sheet(
            rows,
            order.out / "contact-sheet.png",
            names=names,
            columns=order.columns,
            heading=order.heading,
        )
    except OSError as error:
        msg = f"cannot write to {order.out}: {error.strerror}; choose another folder"
        raise DataError(msg) from error
    say(f"{made} made, {len(volumes) - made} were there; weights: {card.licence}")
    if len(volumes) > len(rows):
        say(f"the contact sheet shows the first {len(rows)}")
    answer([str(path) for path in (*(one.files.image for one in volumes), *tables, sheet)])


def _row(wanted: _Wanted) -> SheetRow:
    from ..evaluation.contact_sheet import SheetRow

    files, spec = wanted.files, wanted.spec
    assert spec.size is not None
    assert spec.spacing is not None
    image, label = files.read()
    parts = [
        f"{spec.modality}",
        " × ".join(map(str, spec.size)) + " voxels",
        " × ".join(f"{mm:g}" for mm in spec.spacing) + " mm",
    ]
    if spec.pathology:
        parts.append(", ".join(f"{name} {diameter:g} mm" for name, diameter in spec.pathology))
    if spec.organ_sizes:
        parts.append(", ".join(f"{name} {size:g}" for name, size in spec.organ_sizes))
    title = files.name
    if wanted.cell is not None:
        texts = wanted.cell.texts.items()
        title = "   ".join(f"{name.removeprefix(PATHOLOGY)} {text}" for name, text in texts)
    return SheetRow(
        title,
        image if image.ndim == 3 else image[..., 0],
        label,
        " · ".join(parts),
        spec.spacing,
    )
