"""Legality: whether a variant can make what a spec asks, and what is nearest if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ball import lesion_voxels
from .errors import SpecError
from .errors import did_you_mean

if TYPE_CHECKING:
    from .card import VariantCard
    from .spec import VolumeSpec


def check(card: VariantCard, spec: VolumeSpec) -> None:
    """Refuse what the variant of a card cannot make, or was not trained for.

    Args:
        card: Of the variant.
        spec: Its defaults filled in.

    Raises:
        SpecError: naming the field, what came, and the nearest legal value.
    """
    assert spec.size is not None
    assert spec.spacing is not None
    assert spec.modality is not None
    assert spec.steps is not None
    if any(n not in legal for n, legal in zip(spec.size, card.legal_sizes, strict=True)):
        nearest = tuple(
            min(legal, key=lambda m, n=n: (abs(m - n), m))  # type: ignore[misc]
            for n, legal in zip(spec.size, card.legal_sizes, strict=True)
        )
        msg = f"`{card.name}` cannot make size {spec.size}; the nearest legal size is {nearest}"
        raise SpecError(msg)
    low, high = card.spacing_range
    if not all(low <= mm <= high for mm in spec.spacing):
        nearest_mm = tuple(min(max(mm, low), high) for mm in spec.spacing)
        msg = (
            f"`{card.name}` makes spacings of {low} to {high} mm, got {spec.spacing}; "
            f"the nearest is {nearest_mm}"
        )
        raise SpecError(msg)
    if spec.modality not in card.modalities:
        msg = (
            f"`{card.name}` has no modality `{spec.modality}`; "
            f"{did_you_mean(spec.modality, card.modalities)}"
        )
        raise SpecError(msg)
    if spec.solver not in card.solvers:
        msg = f"solver must be one of {card.solvers}, got {spec.solver!r}"
        raise SpecError(msg)
    if spec.numerics == "reference" and spec.solver != card.reference_solver:
        msg = (
            f"numerics `reference` repeat NV-Generate, whose solver is "
            f"`{card.reference_solver}`, got solver `{spec.solver}`; ask for numerics `exact`"
        )
        raise SpecError(msg)
    if not card.steps_range[0] <= spec.steps <= card.steps_range[1]:
        msg = f"steps must lie in {list(card.steps_range)}, got {spec.steps}"
        raise SpecError(msg)
    _check_conditions(card, spec)
    _check_sizes(card, spec)
    for name in spec.anatomy:
        if name not in card.vocabulary:
            msg = f"`{card.name}` has no label `{name}`; {did_you_mean(name, card.vocabulary)}"
            raise SpecError(msg)
    least, most = card.pathology_range
    for name, diameter in spec.pathology:
        if name not in card.pathology:
            msg = (
                f"`{card.name}` cannot place `{name}`; {did_you_mean(name, card.pathology)}"
                if card.pathology
                else f"`{card.name}` cannot place lesions, got pathology `{name}`"
            )
            raise SpecError(msg)
        if not least <= diameter <= most:
            msg = f"`{name}` diameters are {least} to {most} mm, got {diameter}"
            raise SpecError(msg)
        # In a label that is drawn, a lesion is as near to its size as the anatomy lets it be;
        # into a mask it is put at its size or not at all.
        if card.has_mask(spec) or spec.mask_steps is not None:
            lesion_voxels(name, diameter, spec.spacing)


def _check_conditions(card: VariantCard, spec: VolumeSpec) -> None:
    if spec.mask is not None and not card.has_labels:
        msg = (
            f"`{card.name}` makes images alone and cannot follow a mask; leave `mask` out, or "
            "use a variant with a ControlNet, such as `rflow-ct` or `tiny-brain`"
        )
        raise SpecError(msg)
    _check_changes(card, spec)
    if spec.image is not None and not card.image_weights:
        msg = (
            f"`{card.name}` cannot follow an image; leave `image` out, or use a variant with "
            "an image ControlNet, such as `tiny-brain`"
        )
        raise SpecError(msg)
    if (spec.anatomy or spec.pathology) and not card.gives_label(spec):
        asked = [*spec.anatomy, *(name for name, _ in spec.pathology)]
        msg = f"`{card.name}` draws no label, but {asked} must be in it; {card.ways_to_labels}"
        raise SpecError(msg)
    on_tumours = card.guides_tumours and card.gives_label(spec)
    if spec.guidance and not (card.has_guidance or on_tumours):
        msg = (
            f"`{card.name}` does not know modalities, so it cannot be guided"
            f"{' without a mask' if card.guides_tumours else ''}; "
            f"leave guidance at 0, got {spec.guidance:g}"
        )
        raise SpecError(msg)
    if spec.body_region is not None:
        _check_region(card, spec.body_region)
    verdict = card.outside(spec)
    if verdict is not None and not spec.allow_out_of_distribution:
        msg = f"`{card.name}` was not trained for this: {'; '.join(verdict.reasons)}"
        if verdict.row is not None:
            assert verdict.spacing is not None
            near = ", ".join(f"{mm:g}" for mm in verdict.spacing)
            msg += (
                f"; it was compared with the row {verdict.row.text()}, and the nearest legal "
                f"volume has size {verdict.size} and spacing ({near})"
            )
        msg += "; allow_out_of_distribution=True makes it all the same"
        raise SpecError(msg)


def _check_sizes(card: VariantCard, spec: VolumeSpec) -> None:
    if spec.image_only and (spec.mask is not None or not card.has_images_alone):
        what = "follows a mask" if spec.mask is not None else "always has a label"
        msg = f"a volume of `{card.name}` that {what} is no image alone; leave out image_only"
        raise SpecError(msg)
    if spec.image_only and card.mask_bank and card.default_mask_steps is None:
        msg = (
            f"every volume of `{card.name}` has a label where there is a bank of masks; leave out "
            "image_only, or open a source without the bank"
        )
        raise SpecError(msg)
    if spec.mask_steps is not None and not 1 <= spec.mask_steps <= card.steps_range[1]:
        msg = f"mask_steps must lie in [1, {card.steps_range[1]}], got {spec.mask_steps}"
        raise SpecError(msg)
    asked = [name for name, _ in spec.organ_sizes]
    if asked and spec.mask is not None:
        msg = f"organ_sizes {asked} are for a mask that is drawn, but one was given; leave out "
        raise SpecError(msg + "one of the two")
    known = (*card.sized_organs, *card.sized_tumours)
    if asked and (not known or spec.image_only):
        msg = f"`{card.name}` draws no label map from sizes, got organ_sizes {asked}; "
        raise SpecError(msg + (card.mask_networks or "leave them out"))
    for name in asked:
        if name not in known:
            msg = f"`{card.name}` knows no size of `{name}`; {did_you_mean(name, known)}"
            raise SpecError(msg)
    if spec.mask_steps is None:
        return
    wanted = [name for name, size in spec.organ_sizes if size >= 0]
    tumours = {*wanted, *spec.anatomy} & set(card.sized_tumours)
    if len(tumours) > 1:
        msg = (
            f"more than one tumour requested where one is allowed: {sorted(tumours)}; the mask "
            "networks draw one kind in a volume, so ask for one, or give a mask with both"
        )
        raise SpecError(msg)


def _check_changes(card: VariantCard, spec: VolumeSpec) -> None:
    for name in ("augment_mask", "fit_mask"):
        if getattr(spec, name) and not card.has_mask(spec):
            msg = (
                f"{name} changes a mask, and this spec has none; give one, "
                "Recipe(mask=source.put(array, affine)), or leave it out"
            )
            raise SpecError(msg)
    tumours = [name for name in spec.anatomy if name in card.pathology]
    if spec.augment_mask and len(tumours) > 1:
        msg = (
            f"augment_mask moves one kind of tumour in a mask, and {tumours} are asked for; "
            "ask for one of them in `anatomy`, or leave augment_mask out"
        )
        raise SpecError(msg)


def _check_region(card: VariantCard, region: tuple[str, str]) -> None:
    if not card.body_regions:
        msg = f"`{card.name}` is not told a body region, got {region}; leave body_region out"
        raise SpecError(msg)
    for name in region:
        if name not in card.body_regions:
            msg = (
                f"`{card.name}` has no body region `{name}`; "
                f"{did_you_mean(name, card.body_regions)}"
            )
            raise SpecError(msg)
    first, last = (card.body_regions.index(name) for name in region)
    if first > last:
        msg = f"body_region must go from head to foot, {card.body_regions}, got {region}"
        raise SpecError(msg)
