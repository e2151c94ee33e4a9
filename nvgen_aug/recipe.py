"""Recipe: a distribution over specs; `draw` is the only random step."""

from __future__ import annotations

import math
import tomllib
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
import yaml

from .card import VariantCard
from .errors import SpecError
from .spec import VolumeSpec


@final
@dataclass(frozen=True, slots=True)
class Lesions:
    """How many lesions of a kind are drawn, and how large.

    Args:
        count: Least and greatest number of lesions, each number alike.
        diameter: Least and greatest diameter in mm, uniform in the logarithm,
            so that small lesions are as common as they are in patients.
    """

    count: tuple[int, int] = (1, 1)
    diameter: tuple[float, float] = (6.0, 16.0)

    def __post_init__(self) -> None:
        count = _pair("lesion count", self.count)
        diameter = _pair("lesion diameter", self.diameter)
        if count != tuple(int(n) for n in count) or not 0 <= count[0] <= count[1]:
            msg = f"lesion count must be two integers 0 ≤ least ≤ greatest, got {self.count!r}"
            raise SpecError(msg)
        if not 0 < diameter[0] <= diameter[1]:
            msg = f"lesion diameter must be 0 < least ≤ greatest mm, got {self.diameter!r}"
            raise SpecError(msg)
        object.__setattr__(self, "count", (int(count[0]), int(count[1])))
        object.__setattr__(self, "diameter", (float(diameter[0]), float(diameter[1])))

    def draw(self, rng: np.random.Generator) -> list[float]:
        """Diameters in mm, largest first."""
        number = int(rng.integers(self.count[0], self.count[1] + 1))
        low, high = np.log(self.diameter)
        # Tenths of a millimetre: specs stay readable, and lose nothing.
        diameters = [round(float(np.exp(rng.uniform(low, high))), 1) for _ in range(number)]
        return sorted(diameters, reverse=True)

    def between(self, least: float = 0.0, below: float = math.inf) -> Lesions | None:
        """At least one of these lesions, and only of these sizes; `None` if none is so large.

        Args:
            least: Least diameter in mm.
            below: Diameter in mm that is too large already.
        """
        # Diameters are drawn in tenths of a millimetre.
        low = math.ceil(round(10 * max(self.diameter[0], least), 6)) / 10
        high = min(
            self.diameter[1],
            math.ceil(round(10 * below, 6) - 1) / 10 if below < math.inf else below,
        )
        if low > high or self.count[1] == 0:
            return None
        return Lesions((max(1, self.count[0]), self.count[1]), (low, high))


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
            "diameter": [8, 20]}}` as a file has it.
        pathology_share: Share of the volumes that get any pathology at all.
        mask: Digest of a mask of the caller's, as `source.put` returned it, or several to
            choose from alike.
        steps, guidance, guidance_interval, solver, numerics, body_region,
        allow_out_of_distribution: As in `VolumeSpec`.

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

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if isinstance(self.modality, Sequence) and not isinstance(self.modality, str):
            put("modality", tuple(self.modality))
            if not self.modality:
                msg = "modality must name at least one contrast, got an empty list"
                raise SpecError(msg)
        if isinstance(self.mask, Sequence) and not isinstance(self.mask, str):
            put("mask", tuple(self.mask))
            if not self.mask:
                msg = "mask must be at least one digest from `source.put`, got an empty list"
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
        given: Any = {} if self.pathology is None else self.pathology
        if not isinstance(given, Mapping):
            msg = f"pathology must map label names to lesions, got {given!r}"
            raise SpecError(msg)
        put("pathology", {name: _lesions(name, value) for name, value in given.items()})
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
        mask = self.mask
        if isinstance(mask, tuple):
            mask = mask[int(rng.integers(len(mask)))]
        return VolumeSpec(
            name,
            seed=seed,
            size=self.size,
            spacing=self.spacing,
            modality=modality,  # type: ignore[arg-type]  # narrowed by __post_init__
            anatomy=self.anatomy,
            pathology=tuple(lesions),
            solver=self.solver,
            steps=self.steps,
            guidance=self.guidance,
            numerics=self.numerics,
            guidance_interval=self.guidance_interval,
            mask=mask,  # type: ignore[arg-type]  # narrowed by __post_init__
            body_region=self.body_region,
            allow_out_of_distribution=self.allow_out_of_distribution,
        )

    def gives_labels(self, card: VariantCard) -> bool:
        """Whether its volumes come with labels from the variant of a card."""
        return card.has_labels and (card.draws_labels or self.mask is not None)

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
            self, anatomy=tuple(n for n in self.anatomy if n != name), pathology=pathology
        )

    def check(self, card: VariantCard) -> None:
        """Raise `SpecError` now for anything that the card's variant can never make."""
        choices = self.modality if isinstance(self.modality, tuple) else (self.modality,)
        masks = self.mask if isinstance(self.mask, tuple) else (self.mask,)
        for modality, mask in product(choices, masks):
            for end in (0, 1):
                lesions = tuple(
                    (name, kind.diameter[end])
                    for name, kind in (self.pathology or {}).items()
                    if isinstance(kind, Lesions)
                )
                card.resolve(
                    VolumeSpec(
                        self.variant or card.name,
                        seed=0,
                        size=self.size,
                        spacing=self.spacing,
                        modality=modality,
                        anatomy=self.anatomy,
                        pathology=lesions,
                        solver=self.solver,
                        steps=self.steps,
                        guidance=self.guidance,
                        numerics=self.numerics,
                        guidance_interval=self.guidance_interval,
                        mask=mask,
                        body_region=self.body_region,
                        allow_out_of_distribution=self.allow_out_of_distribution,
                    )
                )

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The recipe in a TOML or YAML file, whose keys are the arguments.

        Raises:
            SpecError: if the file cannot be read, or has keys that a recipe lacks.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            is_toml = path.suffix.lower() == ".toml"
            values = tomllib.loads(text) if is_toml else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            msg = f"cannot read the recipe {path}: {error}"
            raise SpecError(msg) from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            strange = sorted(set(values) - known) if isinstance(values, dict) else type(values)
            msg = f"the recipe {path} may have {sorted(known)}, got {strange}"
            raise SpecError(msg)
        return cls(**values)


def _lesions(name: str, value: Lesions | Mapping[str, Any]) -> Lesions:
    if isinstance(value, Lesions):
        return value
    if not isinstance(value, Mapping) or not set(value) <= {"count", "diameter"}:
        msg = (
            f"pathology `{name}` must be Lesions(count, diameter) or a mapping with "
            f"`count` and `diameter`, got {value!r}"
        )
        raise SpecError(msg)
    return Lesions(**value)


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = value
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be two numbers (least, greatest), got {value!r}"
        raise SpecError(msg) from error
