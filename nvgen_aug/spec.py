"""VolumeSpec: everything that determines one synthetic volume."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import final

from .errors import SpecError
from .organ_sizes import sizes_of

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_SEED = 2**63 - 1
NUMERICS = ("exact", "reference")
LATER_FIELDS = ("augment_mask", "fit_mask", "image")


@final
@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A request for one volume: equal specs mean equal voxels.

    `None` stands for the variant's default and is filled in by
    `VolumeSource.resolve`; only a resolved spec has a cache key.

    Args:
        variant: Name of the model, such as `"tiny-brain"`.
        seed: Where all chance in the volume comes from, 0 to 2⁶³ − 1.
        size: Voxels (x, y, z) of the generator's grid.
        spacing: Millimetres per voxel (x, y, z).
        modality: Name of the contrast, such as `"mri_t1_skull_stripped"`.
        anatomy: Names of the vocabulary that the label must contain.
        pathology: Lesions to place, each as (label name, diameter in mm).
        mask: SHA-256 of the caller's own label, as `VolumeSource.put` returned it;
            `None` lets the variant draw one from the seed, or a bank of masks choose one.
        solver: Name of the ODE solver of the flow.
        steps: Evaluations of the flow.
        guidance: Classifier-free guidance scale; 0 is off.
        numerics: `"exact"`, or `"reference"` for the rounding of NV-Generate.
        guidance_interval: Least and greatest share of noise, in 0 to 1, at which guidance is
            evaluated; elsewhere an evaluation costs half.
        body_region: First and last region of the body, such as `("chest", "abdomen")`, for
            a variant that is told.
        allow_out_of_distribution: Whether a field of view outside the training data is
            made all the same, and marked in the provenance.
        organ_sizes: Sizes of organs and tumours for a variant that draws its label maps from
            them, each as (label name, size): 0 to 1 as a share of all patients, or -1 for
            absent. The seed decides on what is not named.
        mask_steps: Evaluations of the network that draws the label map.
        image_only: Whether the image is made alone, where a label map would be drawn.
        augment_mask: Whether the tumour of the mask is moved and deformed in its organ, or the
            mask zoomed a little where it has none, so that no two seeds share it.
        fit_mask: Whether the mask is resampled to the size and spacing where it has others.
        image: SHA-256 of an image of the caller's, as `VolumeSource.put` returned it: the volume
            shows the same subject in the contrast `modality`.

    Raises:
        SpecError: if a field is of the wrong kind or out of range.
    """

    variant: str
    seed: int
    size: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    modality: str | None = None
    anatomy: tuple[str, ...] = ()
    pathology: tuple[tuple[str, float], ...] = ()
    mask: str | None = None
    solver: str | None = None
    steps: int | None = None
    guidance: float | None = None
    numerics: str = "exact"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    body_region: tuple[str, str] | None = None
    allow_out_of_distribution: bool = False
    organ_sizes: tuple[tuple[str, float], ...] = ()
    mask_steps: int | None = None
    image_only: bool = False
    augment_mask: bool = False
    fit_mask: bool = False
    image: str | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for name in ("variant", "modality", "solver", "mask", "image"):
            text = getattr(self, name)
            if not isinstance(text, str) and (text is not None or name == "variant"):
                msg = f"{name} must be a text, got {text!r}"
                raise SpecError(msg)
        # 1 == 1.0, but they do not read alike as JSON: equal specs need equal keys.
        put("seed", _integer("seed", self.seed, 0, MAX_SEED))
        if self.size is not None:
            put("size", tuple(_integer("size", v, 1, 4096) for v in _three("size", self.size)))
        if self.spacing is not None:
            put("spacing", tuple(_length("spacing", v) for v in _three("spacing", self.spacing)))
        put("anatomy", tuple(str(name) for name in _listed("anatomy", self.anatomy)))
        put("pathology", tuple(_lesion(v) for v in _listed("pathology", self.pathology)))
        for name in ("mask", "image"):
            digest = getattr(self, name)
            if digest is not None and not DIGEST.fullmatch(digest):
                msg = f"{name} must be a digest of 64 hex digits from `source.put`, got {digest!r}"
                raise SpecError(msg)
        if self.steps is not None:
            put("steps", _integer("steps", self.steps, 1, 10_000))
        if self.guidance is not None:
            try:
                scale = float(self.guidance)
            except (TypeError, ValueError):
                scale = math.nan
            if not math.isfinite(scale) or scale < 0:
                msg = f"guidance must be a finite number ≥ 0, got {self.guidance!r}"
                raise SpecError(msg)
            put("guidance", scale)
        if self.numerics not in NUMERICS:
            msg = f"numerics must be one of {NUMERICS}, got {self.numerics!r}"
            raise SpecError(msg)
        put("guidance_interval", _interval(self.guidance_interval))
        if self.body_region is not None:
            put("body_region", _region(self.body_region))
        put("organ_sizes", sizes_of(self.organ_sizes))
        if self.mask_steps is not None:
            put("mask_steps", _integer("mask_steps", self.mask_steps, 1, 10_000))
        for name in ("allow_out_of_distribution", "image_only", "augment_mask", "fit_mask"):
            came: Any = getattr(self, name)
            if not isinstance(came, bool):
                msg = f"{name} must be true or false, got {came!r}"
                raise SpecError(msg)
        if self.image is not None:
            self._check_image()

    def _check_image(self) -> None:
        if self.numerics == "reference":
            msg = (
                "numerics `reference` repeat NV-Generate, which has no released ControlNet that "
                "follows images; ask for numerics `exact`"
            )
            raise SpecError(msg)
        asked = [*self.anatomy, *(name for name, _ in (*self.pathology, *self.organ_sizes))]
        if asked:
            msg = (
                f"a volume that follows an image shows what the image shows, so {asked} cannot be "
                "asked for; leave anatomy, pathology and organ_sizes out"
            )
            raise SpecError(msg)
        if self.augment_mask:
            msg = (
                "augment_mask moves what a mask shows, and the image would stay as it is; leave "
                "one of augment_mask and image out"
            )
            raise SpecError(msg)

    @property
    def is_resolved(self) -> bool:
        """Whether every default is filled in, so that the spec has a key."""
        needed = (self.size, self.spacing, self.modality, self.solver, self.steps, self.guidance)
        return all(value is not None for value in needed)

    def to_json(self) -> str:
        """The spec as one line of canonical JSON (sorted keys, no spaces)."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            # Volumes were stored before there were these: without them, keys are what they were.
            if field.name not in LATER_FIELDS or getattr(self, field.name) != field.default
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> VolumeSpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: if the text is not JSON, or has fields that a spec lacks.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            msg = f"a spec must be JSON, got {text[:80]!r}"
            raise SpecError(msg) from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not {"variant", "seed"} <= set(values) <= known:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            msg = f"a spec needs `variant` and `seed` and may have {sorted(known)}, got {found}"
            raise SpecError(msg)
        return cls(**values)


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        msg = f"{name} must be an integer, got {value!r}"
        raise SpecError(msg)
    number = int(value)
    if not low <= number <= high:
        msg = f"{name} must lie in [{low}, {high}], got {number}"
        raise SpecError(msg)
    return number


def _interval(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 <= low <= high <= 1:
        msg = f"guidance_interval must be 0 ≤ least ≤ greatest ≤ 1, got {value!r}"
        raise SpecError(msg)
    return low, high


def _listed(name: str, value: Any) -> Iterable[Any]:
    # A text is iterable too, and would be taken apart letter by letter.
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{name} must be a list, got {value!r}"
        raise SpecError(msg)
    return value


def _length(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be a length in mm, got {value!r}"
        raise SpecError(msg) from error
    if not math.isfinite(number) or number <= 0:
        msg = f"{name} must be a finite length > 0 mm, got {value!r}"
        raise SpecError(msg)
    return number


def _lesion(value: Any) -> tuple[str, float]:
    try:
        name, diameter = value
    except (TypeError, ValueError) as error:
        msg = f"pathology must be pairs (label name, diameter in mm), got {value!r}"
        raise SpecError(msg) from error
    return str(name), _length("pathology diameter", diameter)


def _region(value: Any) -> tuple[str, str]:
    names = (value, value) if isinstance(value, str) else tuple(_listed("body_region", value))
    if len(names) == 1:
        names = names * 2
    if len(names) != 2:
        msg = f"body_region must be the first and the last region, got {value!r}"
        raise SpecError(msg)
    return str(names[0]), str(names[1])


def _three(name: str, value: Any) -> tuple[Any, Any, Any]:
    try:
        x, y, z = value
    except (TypeError, ValueError) as error:
        msg = f"{name} must be three numbers (x, y, z), got {value!r}"
        raise SpecError(msg) from error
    return x, y, z
