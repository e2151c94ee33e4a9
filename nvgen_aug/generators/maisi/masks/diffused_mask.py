"""Diffused mask: a label map drawn by the mask networks, cleaned up, on the grid of a volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ....errors import GenerationError
from ....errors import SpecError
from ....spec import VolumeSpec
from ..streams import MASK_LINK
from ..streams import MASK_NOISE
from ..streams import MASK_SIZES
from ..streams import chance
from ..streams import stream
from ..variants import Variant
from .clean_up import cleaned_up
from .fitting import looked_up
from .given_mask import body_region
from .mask_model import MaskModel
from .size_table import nearest_patient
from .size_table import patient_like
from .size_vector import SIZED_NAMES
from .size_vector import SIZED_TUMOURS
from .size_vector import size_vector
from .warped_template import Grid


@final
@dataclass(frozen=True, slots=True, eq=False)
class DiffusedMask:
    """A label map, and the sizes that it was drawn for.

    Attributes:
        label: `[X, Y, Z]` uint8.
        sizes: By name; -1 is absent.
    """

    label: NDArray[np.uint8]
    sizes: Mapping[str, float]

    def text(self) -> str:
        """What provenance says of it."""
        told = ", ".join(f"{name} {size:g}" for name, size in self.sizes.items() if size >= 0)
        return f"mask diffusion: {told}"


def diffused_mask(model: MaskModel, variant: Variant, spec: VolumeSpec, grid: Grid) -> DiffusedMask:
    """The label map of a resolved spec.

    Raises:
        GenerationError: It shows no body, or lacks what was asked for.
    """
    assert spec.mask_steps is not None
    asked = dict(spec.organ_sizes)
    vector = _vector(model, spec, asked)
    if spec.numerics == "reference":
        raw = model.draw_as_reference(vector, spec.mask_steps, spec.seed)
    else:
        raw = model.draw(
            vector,
            spec.mask_steps,
            noise_seed=stream(spec.seed, MASK_NOISE),
            link_seed=stream(spec.seed, MASK_LINK),
        )
    wanted = {name for name, size in asked.items() if size >= 0} | set(spec.anatomy)
    tumours = [variant.labels[name] for name in SIZED_TUMOURS if name in wanted]
    whole = cleaned_up(raw, tumours[0] if tumours else None)
    label = on_grid(whole, model.shape.spacing, grid)
    _check(whole, label, {name: variant.labels[name] for name in sorted(wanted)}, spec)
    if variant.body_regions and spec.body_region is None:
        _check_region(label, spec.seed)
    return DiffusedMask(label, dict(zip(SIZED_NAMES, vector, strict=True)))


def _vector(model: MaskModel, spec: VolumeSpec, asked: Mapping[str, float]) -> tuple[float, ...]:
    rng = chance(spec.seed, MASK_SIZES)
    patient = None
    if model.patients is not None and spec.numerics == "reference":
        patient = nearest_patient(model.patients, asked)
    elif model.patients is not None:
        needed = {name for name in spec.anatomy if name in SIZED_NAMES and name not in asked}
        patient = patient_like(model.patients, asked, needed, rng)
    return size_vector(asked, spec.anatomy, rng, patient)


def on_grid(label: NDArray[np.uint8], spacing: float, grid: Grid) -> NDArray[np.uint8]:
    """The nearest voxels of a label map on a grid with the same middle; 0 where it does not reach.

    Args:
        label: `[X, Y, Z]`.
        spacing: Edge of its voxels in mm.
        grid: Where it is wanted.
    """
    places = [
        (np.arange(n) - 0.5 * (n - 1)) * mm / spacing + 0.5 * (have - 1)
        for n, mm, have in zip(grid.size, grid.spacing, label.shape, strict=True)
    ]
    return looked_up(label, places)


def _check(
    whole: NDArray[np.uint8],
    label: NDArray[np.uint8],
    wanted: Mapping[str, int],
    spec: VolumeSpec,
) -> None:
    if not label.any():
        msg = (
            f"the mask networks drew no body for seed {spec.seed} in {spec.mask_steps} steps; "
            "draw another seed, or ask for more mask_steps"
        )
        raise GenerationError(msg)
    lacking = [name for name, identity in wanted.items() if not (label == identity).any()]
    if not lacking:
        return
    listed = ", ".join(f"`{name}`" for name in lacking)
    if all((whole == wanted[name]).any() for name in lacking):
        msg = (
            f"the mask that was drawn for seed {spec.seed} shows {listed}, but not within size "
            f"{spec.size} at spacing {spec.spacing}; draw another seed, or widen the field of view"
        )
    else:
        msg = (
            f"the mask networks drew no {listed} for seed {spec.seed}, which was asked for; draw "
            "another seed, or ask for more mask_steps"
        )
    raise GenerationError(msg)


def _check_region(label: NDArray[np.uint8], seed: int) -> None:
    try:
        body_region(label)
    except SpecError as error:
        msg = f"the mask networks drew a body for seed {seed} of which no region is known: {error}"
        raise GenerationError(msg) from error
