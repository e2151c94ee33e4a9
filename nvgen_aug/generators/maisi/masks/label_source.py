"""LabelSource: where the label of a volume comes from, and what is done to it before it steers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ....spec import VolumeSpec
from ....volume import Blob
from ..streams import ANATOMY
from ..streams import chance
from ..variants import Variant
from .diffused_mask import diffused_mask
from .given_mask import given_mask
from .mask_model import MaskModel
from .warped_template import Grid
from .warped_template import Template
from .warped_template import draw_anatomy


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


@final
class LabelSource:
    """Gives each spec its label: the caller's mask, one drawn by template or networks, or none.

    Args:
        variant: Whose labels they are.
        template: What labels are drawn from, if the variant draws them so.
        model: The networks that draw labels, if the variant draws them so.
    """

    def __init__(
        self, variant: Variant, template: Template | None = None, model: MaskModel | None = None
    ) -> None:
        self._variant = variant
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
        if self._template is not None:
            return self._drawn(self._template, spec, grid)
        if self._model is not None and not spec.image_only:
            drawn = diffused_mask(self._model, self._variant, spec, grid)
            return SourcedLabel(drawn.label, grid.affine, "drawn", drawn.text())
        return SourcedLabel(None, grid.affine)

    def _given(self, spec: VolumeSpec, mask: Blob | None) -> SourcedLabel:
        given = given_mask(mask, spec, self._variant)
        source = f"{spec.mask} in a drawn body" if given.has_drawn_body else str(spec.mask)
        return SourcedLabel(given.label, given.affine, source)

    @staticmethod
    def _drawn(template: Template, spec: VolumeSpec, grid: Grid) -> SourcedLabel:
        rng = chance(spec.seed, ANATOMY)
        diameters = [diameter for _, diameter in spec.pathology]
        if "lesion" in spec.anatomy and not diameters:
            # A label that must be there, with no word on its size: one of middling size.
            diameters = [float(rng.uniform(8.0, 16.0))]
        label = draw_anatomy(template, grid, rng, lesion_diameters=diameters).label
        return SourcedLabel(label, grid.affine, "drawn", template.name)
