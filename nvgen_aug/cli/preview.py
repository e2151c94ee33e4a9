"""`nvgen-aug preview`: what training will be shown, one contact sheet for each stratum."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import final

import numpy as np
import typer

from ..card import VariantCard
from ..data.seeds import volume_seed_of
from ..data.strata import Strata
from ..errors import DataError
from ..errors import SpecError
from ..pathology import Lesions
from ..recipe import Recipe
from ..spec import VolumeSpec
from .goal import CensusFile
from .goal import Goal
from .goal import strata_of
from .terminal import answer
from .terminal import hint
from .terminal import interruptible
from .terminal import progress
from .terminal import say

if TYPE_CHECKING:
    from ..evaluation.contact_sheet import SheetRow
    from ..source import VolumeSource

_DRAWS = 200  # volumes of the run that are looked at for each one that is shown
_EMPTY = "no pathology"


def preview(
    variant: Annotated[
        str, typer.Argument(help="Model, `phantom` among them, or the address of a server.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the sheets.")] = Path("preview"),
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="TOML or YAML file with the arguments of a Recipe.",
            show_default="one to three lesions, where the model has any",
        ),
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Volumes of each stratum.")] = 4,
    bins: Annotated[
        list[float] | None,
        typer.Option(
            help="Diameter in mm at which a stratum ends; may be given several times.",
            show_default="10 and 20",
        ),
    ] = None,
    goal: Goal = None,
    census: CensusFile = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the SyntheticDataset.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps volumes; training finds them there.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu or cuda.")] = "cpu",
) -> None:
    """Draw contact sheets of the synthetic volumes that a training run will begin with.

    A stratum is a kind of pathology and the diameter of its largest lesion, or with
    --goal and --census one of those that the plan draws from. The volumes are the first
    of each stratum that a SyntheticDataset with this recipe and seed will give, and what
    they took is not lost: with --cache, training reads them.

    Printed is how often each stratum comes, and the sheets are named by stratum.

    \b
    Example:
      nvgen-aug preview tiny-brain --num 3 --bins 8 --bins 16 --out preview/
      nvgen-aug preview tiny-brain --census census.json --goal "lesion < 10 mm=0.2"
    """
    strata = strata_of(census, goal or [])
    if strata is not None and bins:
        msg = "--bins and --goal both say what a stratum is; give one of them"
        raise DataError(msg)
    limits = sorted(bins or (10.0, 20.0))
    if limits[0] <= 0:
        msg = f"--bins must be diameters in mm above 0, got {limits[0]:g}"
        raise DataError(msg)
    with interruptible(f"finished sheets are in {out}"):
        _preview(variant, out, recipe, num, strata or limits, seed, cache, device)


@final
@dataclass(slots=True)
class _Stratum:
    """Volumes of one kind.

    Args:
        shown: Numbers and specs of the first ones.
        drawn: How many there were; 0 where a plan decides.
    """

    shown: list[tuple[int, VolumeSpec]] = field(default_factory=list)
    drawn: int = 0


def _preview(
    variant: str,
    out: Path,
    file: Path | None,
    num: int,
    kinds: Strata | list[float],
    seed: int,
    cache: Path | None,
    device: str,
) -> None:
    # Heavy, and --help does without them.
    from ..assembly import open_source
    from ..evaluation.contact_sheet import contact_sheet

    paths: list[str] = []
    with open_source(variant, device=device, cache=cache) as source:
        card = source.card
        recipe = Recipe.load(file) if file else _default(card)
        recipe.check(card)
        strata = (
            _of_the_goal(recipe, source, num, kinds, seed)
            if isinstance(kinds, Strata)
            else _drawn(recipe, card, num, kinds, seed)
        )
        names = {value: name for name, value in card.vocabulary.items() if value}
        total = sum(len(stratum.shown) for stratum in strata.values())
        with progress() as bar:
            task = bar.add_task(f"`{card.name}`", total=total)
            for title, stratum in sorted(strata.items()):
                rows: list[SheetRow] = []
                for number, spec in stratum.shown:
                    made = source.fetch(spec)
                    rows.append(_row(number, spec, made.image, made.label))
                    bar.advance(task)
                sheet = _sheet_path(out, title)
                try:
                    paths.append(str(contact_sheet(rows, sheet, names=names)))
                except OSError as error:
                    msg = f"cannot write to {out}: {error.strerror}; choose another folder"
                    raise DataError(msg) from error
    draws = sum(stratum.drawn for stratum in strata.values())
    if draws:
        say(f"of the first {draws} volumes:")
        for title, stratum in sorted(strata.items()):
            say(f"  {stratum.drawn / draws:6.1%}  {title}")
    else:
        hint("how often each stratum comes is the plan's: nvgen-aug plan --census … --goal …")
    answer(paths)


def _default(card: VariantCard) -> Recipe:
    if not card.pathology or not card.draws_labels:
        return Recipe()
    least, most = card.pathology_range
    low, high = Lesions().diameter
    diameter = (min(max(low, least), most), max(min(high, most), least))
    lesions = Lesions((1, 3), diameter)
    return Recipe(pathology={card.pathology[0]: lesions}, pathology_share=0.75)


def _drawn(
    recipe: Recipe, card: VariantCard, num: int, limits: list[float], seed: int
) -> Mapping[str, _Stratum]:
    strata: dict[str, _Stratum] = {}
    for number in range(_DRAWS * num):
        rng = np.random.default_rng(volume_seed_of(seed, number))
        spec = card.resolve(recipe.draw(rng, variant=card.name))
        stratum = strata.setdefault(stratum_of(spec, limits), _Stratum())
        stratum.drawn += 1
        if len(stratum.shown) < num:
            stratum.shown.append((number, spec))
    if not strata:
        msg = "the recipe draws no volume"
        raise SpecError(msg)
    return strata


def _of_the_goal(
    recipe: Recipe, source: VolumeSource, num: int, strata: Strata, seed: int
) -> Mapping[str, _Stratum]:
    """The first volumes that a SyntheticRealDataset with these strata asks for."""
    from ..data.stratified import Stratified
    from ..data.synthetic import SyntheticDataset

    parts = Stratified(SyntheticDataset(source, recipe, seed=seed), strata)
    return {
        name: _Stratum([(number, parts.of(name).spec(number)) for number in range(num)])
        for name in parts.names
    }


def stratum_of(spec: VolumeSpec, limits: list[float]) -> str:
    """The kind of pathology of a volume, and the bin of its largest lesion.

    Args:
        spec: What will be made.
        limits: Diameters in mm at which bins end, ascending.
    """
    if not spec.pathology:
        return _EMPTY
    name, largest = max(spec.pathology, key=lambda lesion: lesion[1])
    below = [limit for limit in limits if limit <= largest]
    above = [limit for limit in limits if limit > largest]
    if not below:
        return f"{name} below {above[0]:g} mm"
    if not above:
        return f"{name} from {below[-1]:g} mm"
    return f"{name} {below[-1]:g} to {above[0]:g} mm"


def _sheet_path(out: Path, title: str) -> Path:
    words = title.replace("<", "below").replace(">=", "from")
    return out / (re.sub(r"[^\w.]+", "-", words).strip("-") + ".png")


def _row(number: int, spec: VolumeSpec, image: np.ndarray, label: np.ndarray | None) -> SheetRow:
    from ..evaluation.contact_sheet import SheetRow

    assert spec.spacing is not None
    lesions = ", ".join(f"{name} {diameter:g} mm" for name, diameter in spec.pathology)
    return SheetRow(
        f"volume {number}",
        image[0],
        None if label is None else label[0],
        " · ".join(filter(None, [spec.modality, lesions])),
        spec.spacing,
    )
