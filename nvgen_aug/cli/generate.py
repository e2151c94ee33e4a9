"""`nvgen-aug generate`: volumes as NIfTI files, with a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import final

import numpy as np
import typer

from ..card import VariantCard
from ..data.seeds import volume_seed_of
from ..errors import DataError
from ..errors import SpecError
from ..organ_sizes import sizes_in
from ..pathology import Lesions
from ..recipe import Recipe
from ..source import VolumeSource
from ..spec import VolumeSpec
from .bids import BidsFolder
from .terminal import answer
from .terminal import interruptible
from .terminal import progress
from .terminal import say
from .volume_files import VolumeFiles
from .volume_files import read_label

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

    \b
    Example:
      nvgen-aug generate tiny-brain --num 4 --lesions 2 --out volumes/
      nvgen-aug generate rflow-ct --mask liver.nii.gz --num 4 --out volumes/
      nvgen-aug generate rflow-ct --organ-size "hepatic tumor=0.1:0.3" --out volumes/
      nvgen-aug generate rflow-ct --masks labels/ --num 4 --out volumes/
    """
    wanted = Recipe.load(recipe) if recipe else Recipe()
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
    if allow_out_of_distribution:
        wanted = replace(wanted, allow_out_of_distribution=True)
    with interruptible(f"whole volumes are in {out}; the same command makes the rest"):
        order = _Order(variant, wanted, lesions, num, seed, out, mask, masks, bids)
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
    bids: bool = False

    def with_mask(self, source: VolumeSource) -> _Order:
        """The order whose recipe names the mask, handed over to the source."""
        if self.mask is None:
            return self
        array, affine = read_label(self.mask)
        recipe = replace(
            self.recipe,
            mask=source.put(array, affine),
            size=self.recipe.size or array.shape,
            spacing=self.recipe.spacing or _edges(affine),
        )
        return replace(self, recipe=recipe)

    def specs(self, source: VolumeSource) -> Iterator[tuple[VolumeFiles, VolumeSpec]]:
        """Each volume's files and resolved spec."""
        card = source.card
        recipe = self.recipe
        if self.lesions is not None:
            recipe = replace(recipe, pathology=_pathology(self.lesions, card), pathology_share=1.0)
        recipe.check(card)
        for k in range(self.num):
            # As a SyntheticDataset numbers them, so that training finds them in the cache.
            rng = np.random.default_rng(volume_seed_of(self.seed, k))
            spec = source.resolve(recipe.draw(rng, variant=card.name))
            name = f"{card.name}_seed{self.seed}_{k:04d}"
            yield (
                BidsFolder(self.out).files(name, spec)
                if self.bids
                else VolumeFiles(self.out, name),
                spec,
            )


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
        volumes = list(order.with_mask(source).specs(source))
        if order.bids:
            BidsFolder(order.out).describe(card)
        with progress() as bar:
            task = bar.add_task(f"`{card.name}`", total=len(volumes))
            for files, spec in volumes:
                if not files.hold(card.volume_key(spec)):
                    files.write(source.fetch(spec), spec, card)
                    made += 1
                if len(rows) < SHEET_ROWS:
                    rows.append(_row(files, spec))
                bar.advance(task)
    names = {value: name for name, value in card.vocabulary.items() if value}
    try:
        sheet = contact_sheet(rows, order.out / "contact-sheet.png", names=names)
    except OSError as error:
        msg = f"cannot write to {order.out}: {error.strerror}; choose another folder"
        raise DataError(msg) from error
    say(f"{made} made, {len(volumes) - made} were there; weights: {card.licence}")
    if len(volumes) > len(rows):
        say(f"the contact sheet shows the first {len(rows)}")
    answer([str(files.image) for files, _ in volumes] + [str(sheet)])


def _row(files: VolumeFiles, spec: VolumeSpec) -> SheetRow:
    from ..evaluation.contact_sheet import SheetRow

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
    return SheetRow(
        files.name,
        image if image.ndim == 3 else image[..., 0],
        label,
        " · ".join(parts),
        spec.spacing,
    )
