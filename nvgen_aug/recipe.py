"""Recipe: a distribution over specs; `draw` is the only random step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from itertools import product
from numbers import Real
from pathlib import Path
from typing import Any
from typing import final

import numpy as np

from .card import VariantCard
from .errors import SpecError
from .grid import Grid
from .organ_sizes import SizeRange
from .organ_sizes import size_ranges
from .pathology import Lesions
from .pathology import lesions_of
from .recipe_file import flat
from .recipe_file import read_table
from .spec import VolumeSpec

# Fields of a spec that are as the recipe has them, without chance.
_HANDED_ON = (
    "size",
    "spacing",
    "anatomy",
    "solver",
    "steps",
    "guidance",
    "numerics",
    "guidance_interval",
    "body_region",
    "allow_out_of_distribution",
    "mask_steps",
    "image_only",
    "augment_mask",
    "fit_mask",
)


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """What synthetic volumes are wanted: each field is one value, or a choice of several.

    Args:
        variant: Name of the model; `None` takes that of the source.
        modality: One name, or several to choose from alike; `None` is the variant's default.
        size: Voxels (x, y, z); `None` is the variant's default.
        spacing: mm per voxel; `None` is the variant's default.
        anatomy: Label names that must be present.
        pathology: For each label name, how many lesions of which size:
            `{"lesion": Lesions((1, 4), (8, 20))}`, or `{"lesion": {"count": [1, 4],
            "diameter": [8, 20]}}` as a file has it. `Lesions` also takes sizes that were
            measured, and shares of percentiles.
        pathology_share: Share of the volumes that get any pathology at all.
        mask: Digest of a mask of the caller's, as `source.put` returned it, or several to
            choose from alike.
        organ_sizes: For organs and tumours of a label map that is drawn from sizes, one size or
            the least and the greatest: `{"liver": 0.5, "hepatic tumor": [0.1, 0.3]}`.
        image: Digest of an image of the caller's, as `source.put` returned it, or several to
            choose from alike; volumes show its subject in the contrast `modality`. With masks
            there are as many of them, each of its image's subject, and both are drawn as one.
        steps, guidance, guidance_interval, solver, numerics, body_region,
        allow_out_of_distribution, mask_steps, image_only, augment_mask, fit_mask: As in
            `VolumeSpec`.

    Raises:
        SpecError: for a field of the wrong kind.
    """

    variant: str | None = None
    modality: str | Sequence[str] | None = None
    size: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    anatomy: tuple[str, ...] = ()
    pathology: Mapping[str, Lesions | Mapping[str, Any]] | None = None
    pathology_share: float = 1.0
    solver: str | None = None
    steps: int | None = None
    guidance: float | None = None
    numerics: str = "exact"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    mask: str | Sequence[str] | None = None
    body_region: tuple[str, str] | None = None
    allow_out_of_distribution: bool = False
    organ_sizes: Mapping[str, SizeRange | float | Sequence[float]] | None = None
    mask_steps: int | None = None
    image_only: bool = False
    augment_mask: bool = False
    fit_mask: bool = False
    image: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if isinstance(self.modality, Sequence) and not isinstance(self.modality, str):
            put("modality", tuple(self.modality))
            if not self.modality:
                msg = "modality must name at least one contrast, got an empty list"
                raise SpecError(msg)
        for name in ("mask", "image"):
            given: Any = getattr(self, name)
            if isinstance(given, Sequence) and not isinstance(given, str):
                put(name, tuple(given))
                if not given:
                    msg = f"{name} must be at least one digest from `source.put`, got an empty list"
                    raise SpecError(msg)
        if self.mask is not None and self.image is not None:
            masks, images = len(_choices(self.mask)), len(_choices(self.image))
            if masks != images:
                msg = (
                    "masks and images go in pairs, each mask of its image's subject, got "
                    f"{masks} of mask and {images} of image"
                )
                raise SpecError(msg)
        for name in ("size", "spacing", "anatomy"):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, str):
                    msg = f"{name} must be a list, got the text {value!r}"
                    raise SpecError(msg)
                if not isinstance(value, Iterable):
                    msg = f"{name} must be a list, got {value!r}"
                    raise SpecError(msg)
                put(name, tuple(value))
        given = {} if self.pathology is None else self.pathology
        if not isinstance(given, Mapping):
            msg = f"pathology must map label names to lesions, got {given!r}"
            raise SpecError(msg)
        put("pathology", {name: lesions_of(name, value) for name, value in given.items()})
        put("organ_sizes", size_ranges(self.organ_sizes or {}))
        is_number = isinstance(self.pathology_share, Real)
        if not is_number or not 0 <= self.pathology_share <= 1:
            msg = f"pathology_share must lie in [0, 1], got {self.pathology_share!r}"
            raise SpecError(msg)

    def draw(self, rng: np.random.Generator, *, variant: str | None = None) -> VolumeSpec:
        """One spec of this recipe.

        Args:
            rng: Where all chance comes from.
            variant: Model to use if the recipe names none.
        """
        name = self.variant or variant
        if name is None:
            msg = "the recipe names no variant; pass Recipe(variant=…) or a source that has one"
            raise SpecError(msg)
        # The order of the draws is part of the format: a new one goes last.
        seed = int(rng.integers(0, 2**63 - 1))
        modality = self.modality
        if isinstance(modality, tuple):
            modality = modality[int(rng.integers(len(modality)))]
        has_pathology = float(rng.random()) < self.pathology_share
        lesions: list[tuple[str, float]] = []
        for label, kind in sorted((self.pathology or {}).items()):
            assert isinstance(kind, Lesions)
            diameters = kind.draw(rng)
            lesions += [(label, diameter) for diameter in diameters if has_pathology]
        mask, image, which = self.mask, self.image, 0
        if isinstance(mask, tuple):
            which = int(rng.integers(len(mask)))
            mask = mask[which]
        sizes = tuple((name, wanted.draw(rng)) for name, wanted in self._sizes().items())
        if isinstance(image, tuple):
            # One drawn for its mask already, or, without masks, now.
            image = image[which if mask is not None else int(rng.integers(len(image)))]
        return self._spec(name, seed, modality, tuple(lesions), mask, sizes, image)  # type: ignore[arg-type]

    def grid(
        self,
        factors: Mapping[str, Sequence[Any]],
        *,
        seeds: Iterable[int] = (0,),
        variant: str | None = None,
    ) -> Grid:
        """Every combination of named factors on the same draws, for stress cohorts.

            recipe.grid({"modality": ["bright", "dark"], "pathology.lesion": [0, 6, 12]})

        Args:
            factors: Values of each factor; see `Grid` for their names.
            seeds: One draw from each; what does not vary is the same in all its volumes,
                the seed of the volume and the mask among it.
            variant: Model to use if the recipe names none.

        Raises:
            SpecError: as `Grid` does.
        """
        bases = [self.draw(np.random.default_rng(seed), variant=variant) for seed in seeds]
        return Grid(bases, factors)

    def gives_labels(self, card: VariantCard) -> bool:
        """Whether its volumes come with labels from the variant of a card."""
        drawn = card.draws_labels and self.image is None
        is_given = drawn or self.mask is not None
        return card.has_labels and is_given and not self.image_only

    def having(self, name: str, least: float = 0.0, below: float = math.inf) -> Recipe:
        """This recipe for volumes that show a label, or only lesions of some size of it.

        Args:
            name: Label name: a pathology of this recipe, or an anatomy.
            least: Least diameter in mm.
            below: Diameter in mm that is too large already.

        Raises:
            SpecError: if this recipe draws no such lesion.
        """
        kind = (self.pathology or {}).get(name)
        if kind is None and least <= 0 and below == math.inf:
            anatomy = self.anatomy if name in self.anatomy else (*self.anatomy, name)
            return replace(self, anatomy=anatomy)
        if kind is None:
            msg = (
                f"the recipe draws no `{name}`, so no size of it can be asked for; name it: "
                f'Recipe(pathology={{"{name}": Lesions(diameter=(4, 20))}})'
            )
            raise SpecError(msg)
        assert isinstance(kind, Lesions)
        lesions = kind.between(least, below)
        if lesions is None:
            low, high = kind.diameter
            msg = (
                f"the recipe draws {kind.count[0]} to {kind.count[1]} `{name}` of {low:g} to "
                f"{high:g} mm, none of {least:g} to {below:g} mm; widen its `pathology`"
            )
            raise SpecError(msg)
        return replace(
            self, pathology={**(self.pathology or {}), name: lesions}, pathology_share=1.0
        )

    def lacking(self, name: str) -> Recipe:
        """This recipe for volumes in which a label is not asked for."""
        pathology = {n: kind for n, kind in (self.pathology or {}).items() if n != name}
        return replace(
            self,
            anatomy=tuple(n for n in self.anatomy if n != name),
            pathology=pathology,
            organ_sizes={n: size for n, size in (self.organ_sizes or {}).items() if n != name},
        )

    def check(self, card: VariantCard) -> None:
        """Raise `SpecError` now for anything that the card's variant can never make."""
        choices = self.modality if isinstance(self.modality, tuple) else (self.modality,)
        masks, images = _choices(self.mask), _choices(self.image)
        if self.image is not None and self.mask is None:
            masks = (None,) * len(images)
        elif self.image is None:
            images = (None,) * len(masks)
        for modality, (mask, image) in product(choices, zip(masks, images, strict=True)):
            for end in (0, 1):
                lesions = tuple(
                    (name, kind.diameter[end])
                    for name, kind in (self.pathology or {}).items()
                    if isinstance(kind, Lesions)
                )
                sizes = tuple(
                    (name, (wanted.low, wanted.high)[end]) for name, wanted in self._sizes().items()
                )
                name = self.variant or card.name
                card.resolve(self._spec(name, 0, modality, lesions, mask, sizes, image))

    def _sizes(self) -> dict[str, SizeRange]:
        found = sorted((self.organ_sizes or {}).items())
        return {name: wanted for name, wanted in found if isinstance(wanted, SizeRange)}

    def _spec(
        self,
        variant: str,
        seed: int,
        modality: str | None,
        pathology: tuple[tuple[str, float], ...],
        mask: str | None,
        organ_sizes: tuple[tuple[str, float], ...],
        image: str | None,
    ) -> VolumeSpec:
        return VolumeSpec(
            variant,
            seed=seed,
            modality=modality,
            pathology=pathology,
            mask=mask,
            organ_sizes=organ_sizes,
            image=image,
            **{name: getattr(self, name) for name in _HANDED_ON},
        )

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a TOML or YAML file, whose keys are the arguments.

        Raises:
            SpecError: if the file cannot be read, or has keys that a recipe lacks.
        """
        values = read_table(path)
        if "grid" in values:
            msg = f"{path} holds a grid; load it with Recipe.load_grid, or generate with --grid"
            raise SpecError(msg)
        return cls._of(path, values)

    @classmethod
    def load_grid(cls, path: str | Path) -> tuple[Recipe, dict[str, list[Any]]]:
        """The recipe in a file, and the factors in its table `grid`, for `Recipe.grid`.

        Raises:
            SpecError: if the file cannot be read, has no table `grid`, or is no recipe.
        """
        values = read_table(path)
        factors = values.pop("grid", None)
        if not isinstance(factors, dict) or not factors:
            msg = f"{path} must have a table `grid` of factors, such as spacing = [1, 2]"
            raise SpecError(msg)
        return cls._of(path, values), flat(factors)

    @classmethod
    def _of(cls, path: str | Path, values: dict[str, Any]) -> Recipe:
        known = {field.name for field in fields(cls)}
        if not set(values) <= known:
            strange = sorted(set(values) - known)
            msg = f"the recipe {path} may have {sorted(known)}, got {strange}"
            raise SpecError(msg)
        return cls(**values)


def _choices(value: str | Sequence[str] | None) -> tuple[str | None, ...]:
    return (value,) if value is None or isinstance(value, str) else tuple(value)
