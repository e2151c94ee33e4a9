"""Variant card: what a card says of a variant, before its generator adds what it loaded."""

from __future__ import annotations

from ...card import VariantCard
from .flow import SOLVERS
from .masks.size_vector import SIZED_ORGANS
from .masks.size_vector import SIZED_TUMOURS
from .variants import Variant


def card_of(variant: Variant, digest: str, has_masks: bool) -> VariantCard:
    """The card of a variant.

    Args:
        variant: Which one.
        digest: SHA-256 of its weights.
        has_masks: Whether the networks that draw masks are there.
    """
    is_chain = variant.solver == "ddpm"
    return VariantCard(
        name=variant.name,
        weights_digest=digest,
        generator_revision=variant.revision,
        vocabulary=dict(variant.labels),
        has_labels=variant.has_control,
        modalities=dict(variant.modalities),
        intensity=variant.intensity.unit,
        licence=variant.licence.text(),
        default_size=variant.size,
        default_spacing=variant.spacing,
        default_modality=variant.default_modality,
        legal_sizes=variant.legal_sizes,
        spacing_range=variant.spacing_range,
        default_solver=variant.solver,
        default_steps=variant.steps,
        default_guidance=variant.guidance,
        solvers=("ddpm",) if is_chain else SOLVERS,
        reference_solver="ddpm" if is_chain else "euler",
        reference_steps=variant.steps if is_chain else 30,
        draws_labels=variant.draws_labels or has_masks,
        has_images_alone=variant.release is not None,
        sized_organs=SIZED_ORGANS if has_masks else (),
        sized_tumours=SIZED_TUMOURS if has_masks else (),
        default_mask_steps=variant.mask_steps if has_masks else None,
        mask_networks=(
            f"`nvgen-aug weights import {variant.name}` adds the networks that draw masks"
            if variant.mask_model is not None and not has_masks
            else ""
        ),
        aliases=dict(variant.aliases),
        guides_tumours=variant.guides_tumours,
        has_guidance=variant.flow.class_embeds is not None,
        body_regions=variant.body_regions,
        default_body_region=("chest", "abdomen") if variant.body_regions else None,
        envelope=variant.envelope,
        pathology=tuple(variant.hosts),
        hosts={
            name: tuple(organ for organ, number in variant.labels.items() if number in host.organs)
            for name, host in variant.hosts.items()
        },
        pathology_range=variant.pathology_range,
    )
