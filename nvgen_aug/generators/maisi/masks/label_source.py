"""LabelSource: where the label of a volume comes from, and what is done to it before it steers."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ....errors import SpecError
from ....spec import VolumeSpec
from ....volume import Blob
from ..streams import ANATOMY
from ..streams import AUGMENTATION
from ..streams import INSERTION
from ..streams import chance
from ..variants import Variant
from .augmentation import augment
from .diffused_mask import diffused_mask
from .given_mask import given_mask
from .insertion import insert_tumour
from .mask_model import MaskModel
from .warped_template import Grid
from .warped_template import Template
from .warped_template import draw_anatomy

_SAME_PLACE_MM: Final = 0.01


@final
@dataclass(frozen=True, slots=True, eq=False)
class SourcedLabel:
    """The label of one volume, on the generator's grid.

    Attributes:
        label: `[X, Y, Z]` uint8, or `None` for an image alone.
        affine: `[4, 4]`, voxel to world in mm.
        source: What `Provenance.mask_source` says.
        parent: What `Provenance.mask_parent` says.
    """

    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    source: str = "none"
    parent: str = ""

    def beside(self, affine: NDArray[np.float64]) -> SourcedLabel:
        """The same label for the subject of an image that lies so.

        Raises:
            SpecError: The label is a mask that lies elsewhere.
        """
        if self.label is not None and not np.allclose(self.affine, affine, atol=_SAME_PLACE_MM):
            msg = (
                f"mask and image must lie on the same voxels, got affines {self.affine.tolist()} "
                f"and {affine.tolist()}; resample the mask to the image"
            )
            raise SpecError(msg)
        return replace(self, affine=affine)


@final
class LabelSource:
    """Gives each spec its label: the caller's mask, one drawn by template or networks, or none.

    Args:
        variant: Whose labels they are.
        template: What labels are drawn from, if the variant draws them so.
        model: The networks that draw labels, if the variant draws them so.
        device: Where masks are augmented.
    """

    def __init__(
        self,
        variant: Variant,
        template: Template | None = None,
        model: MaskModel | None = None,
        *,
        device: torch.device,
    ) -> None:
        self._variant = variant
        self._device = device
        self._template = template
        self._model = model

    def label(self, spec: VolumeSpec, mask: Blob | None) -> SourcedLabel:
        """The label of a resolved spec.

        Args:
            spec: Resolved.
            mask: The array that `spec.mask` names, if it names one.

        Raises:
            SpecError: The mask did not come along, or cannot be what the spec asks.
            GenerationError: A drawn one lacks what the spec asks.
        """
        assert spec.size is not None
        assert spec.spacing is not None
        if spec.mask is not None:
            return self._given(spec, mask)
        grid = Grid(spec.size, spec.spacing)
        if spec.image is not None:  # no label that could be drawn is of its subject
            return SourcedLabel(None, grid.affine)
        if self._template is not None:
            return self._drawn(self._template, spec, grid)
        if self._model is not None and not spec.image_only:
            drawn = diffused_mask(self._model, self._variant, spec, grid)
            label, changes = self._with_tumours(drawn.label, spec)
            return SourcedLabel(label, grid.affine, _source("drawn", changes), drawn.text())
        return SourcedLabel(None, grid.affine)

    def _given(self, spec: VolumeSpec, mask: Blob | None) -> SourcedLabel:
        given = given_mask(mask, spec, self._variant)
        label, changes = given.label, list[str]()
        if given.is_fitted:
            changes.append("resampled")
        if given.has_drawn_body:
            changes.append("in a drawn body")
        if spec.augment_mask:
            label, change = self._augmented(label, spec)
            changes.append(change)
        label, inserted = self._with_tumours(label, spec)
        changes += inserted
        self._check_anatomy(label, spec)
        assert spec.mask is not None
        source = _source(spec.mask, changes)
        return SourcedLabel(label, given.affine, source, spec.mask if changes else "")

    def _with_tumours(
        self, label: NDArray[np.uint8], spec: VolumeSpec
    ) -> tuple[NDArray[np.uint8], list[str]]:
        """The label with the tumours that are asked for, and what was put in."""
        assert spec.spacing is not None
        rng = chance(spec.seed, INSERTION)
        for name, diameter in spec.pathology:
            label = insert_tumour(label, spec.spacing, name, diameter, rng, self._variant.hosts)
        return label, [f"{name} of {diameter:g} mm inserted" for name, diameter in spec.pathology]

    def _augmented(
        self, label: NDArray[np.uint8], spec: VolumeSpec
    ) -> tuple[NDArray[np.uint8], str]:
        """The changed mask, and what was changed."""
        on_device = torch.from_numpy(label).to(self._device)
        changed, tumour = augment(on_device, chance(spec.seed, AUGMENTATION), self._variant.motions)
        names = {number: name for name, number in self._variant.labels.items()}
        change = "zoomed" if tumour is None else f"{names[tumour]} moved" if tumour else "not moved"
        return changed.cpu().numpy(), change

    def _check_anatomy(self, label: NDArray[np.uint8], spec: VolumeSpec) -> None:
        present = set(np.unique(label).tolist())
        absent = [name for name in spec.anatomy if self._variant.labels[name] not in present]
        if absent:
            how = f", resampled to {spec.spacing} mm and {spec.size}," if spec.fit_mask else ""
            msg = (
                f"mask {str(spec.mask)[:12]}…{how} has no {absent}, for which `anatomy` asks; "
                "choose another mask, finer voxels or a larger field of view"
            )
            raise SpecError(msg)

    @staticmethod
    def _drawn(template: Template, spec: VolumeSpec, grid: Grid) -> SourcedLabel:
        rng = chance(spec.seed, ANATOMY)
        diameters = [diameter for _, diameter in spec.pathology]
        if "lesion" in spec.anatomy and not diameters:
            # A label that must be there, with no word on its size: one of middling size.
            diameters = [float(rng.uniform(8.0, 16.0))]
        label = draw_anatomy(template, grid, rng, lesion_diameters=diameters).label
        return SourcedLabel(label, grid.affine, "drawn", template.name)


def _source(where: str, changes: list[str]) -> str:
    return f"{where}: {', '.join(changes)}" if changes else where
