"""VariantCard: what `resolve` fills in, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nvgen_aug.card import VariantCard
from nvgen_aug.envelope import Envelope
from nvgen_aug.envelope import FieldOfView
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec

CARD = PhantomGenerator().card


def test_resolve_fills_in_every_default_and_keeps_what_was_asked() -> None:
    resolved = CARD.resolve(VolumeSpec("phantom", seed=1, steps=7))
    assert resolved == VolumeSpec(
        "phantom",
        seed=1,
        size=(32, 32, 32),
        spacing=(2.0, 2.0, 2.0),
        modality="bright",
        solver="euler",
        steps=7,
        guidance=0.0,
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"size": (30, 33, 9)}, r"size \(30, 33, 9\); the nearest legal size is \(28, 32, 8\)"),
        ({"size": (4000, 8, 8)}, r"the nearest legal size is \(512, 8, 8\)"),
        ({"spacing": (20, 1, 1)}, r"got \(20.0, 1.0, 1.0\); the nearest is \(10.0, 1.0, 1.0\)"),
        ({"modality": "drak"}, "has no modality `drak`; did you mean `dark`?"),
        ({"solver": "heun"}, "solver must be one of .*, got 'heun'"),
        (
            {"solver": "mean", "numerics": "reference"},
            "numerics `reference` .* whose solver is `euler`, got solver `mean`",
        ),
        ({"steps": 5000}, r"steps must lie in \[1, 1000\], got 5000"),
        ({"anatomy": ("orgam",)}, "has no label `orgam`; did you mean `organ`?"),
        ({"pathology": (("lesoin", 5),)}, "cannot place `lesoin`; did you mean `lesion`?"),
        ({"pathology": (("lesion", 300),)}, "`lesion` diameters are 0.1 to 200.0 mm, got 300"),
        ({"variant": "rflow-ct"}, "`rflow-ct` was asked of a source that makes `phantom`"),
    ],
)
def test_what_the_variant_cannot_make_is_refused_with_the_nearest(
    fields: dict[str, Any], text: str
) -> None:
    card = replace(CARD, solvers=("euler", "mean"))
    with pytest.raises(SpecError, match=text):
        card.resolve(VolumeSpec(**{"variant": "phantom", "seed": 0, **fields}))


@pytest.mark.parametrize(
    ("asked", "solver", "steps"),
    [
        ({}, "fast", 9),
        ({"solver": "fast"}, "fast", 9),
        ({"solver": "euler"}, "euler", 25),
        ({"numerics": "reference"}, "euler", 25),
        ({"numerics": "reference", "steps": 4}, "euler", 4),
    ],
)
def test_the_default_number_of_evaluations_goes_with_the_solver(
    asked: dict[str, Any], solver: str, steps: int
) -> None:
    card = replace(
        CARD,
        solvers=("fast", "euler"),
        default_solver="fast",
        default_steps=9,
        reference_steps=25,
    )
    resolved = card.resolve(VolumeSpec("phantom", seed=0, **asked))
    assert (resolved.solver, resolved.steps) == (solver, steps)


def test_a_variant_without_lesions_says_so() -> None:
    with pytest.raises(SpecError, match="cannot place lesions, got pathology `lesion`"):
        replace(CARD, pathology=()).resolve(
            VolumeSpec("phantom", seed=0, pathology=(("lesion", 5),))
        )


def test_only_a_resolved_spec_has_a_key() -> None:
    with pytest.raises(SpecError, match="only a resolved spec has a key"):
        CARD.latent_key(VolumeSpec("phantom", seed=0))


def test_other_weights_or_another_revision_give_other_keys() -> None:
    spec = CARD.resolve(VolumeSpec("phantom", seed=0))
    others = (replace(CARD, weights_digest="0" * 64), replace(CARD, generator_revision="2"))
    keys = {card.volume_key(spec) for card in (CARD, *others)}
    assert len(keys) == 3
    assert CARD.latent_key(spec) != CARD.volume_key(spec)


def test_a_card_survives_json() -> None:
    assert VariantCard.from_json(CARD.to_json()) == CARD


# An image-only model, and one that follows masks but draws none, both with an envelope.
IMAGES = replace(CARD, has_labels=False)
MASKS = replace(
    CARD,
    draws_labels=False,
    body_regions=("head", "chest", "abdomen"),
    default_body_region=("chest", "abdomen"),
    aliases={"organ_left": "organ"},
    envelope=Envelope(
        sizes=((32, 32, 32), (64, 64, 64)),
        spacings=((1.0, 3.0), (1.0, 3.0), (1.0, 3.0)),
        rows=(FieldOfView("cube", (64.0, 64.0, 64.0)),),
    ),
)
DIGEST = "ab" * 32


def asked(**fields: Any) -> VolumeSpec:
    return VolumeSpec(**{"variant": "phantom", "seed": 0, **fields})


@pytest.mark.parametrize(
    ("card", "fields", "text"),
    [
        (CARD, {"augment_mask": True}, "augment_mask changes a mask, and this spec has none"),
        (CARD, {"fit_mask": True}, "fit_mask changes a mask, and this spec has none"),
        (
            replace(CARD, pathology=("lesion", "organ")),
            {"mask": DIGEST, "augment_mask": True, "anatomy": ("lesion", "organ")},
            r"moves one kind of tumour in a mask, and \['lesion', 'organ'\] are asked for",
        ),
        (
            CARD,
            {"mask": DIGEST, "pathology": (("lesion", 1.0),)},
            "too small for voxels of 2 x 2 x 2 mm; the least is 4.24 mm",
        ),
        (IMAGES, {"mask": DIGEST}, "makes images alone and cannot follow a mask"),
        (IMAGES, {"anatomy": ("organ",)}, r"draws no label, but \['organ'\].*images alone"),
        (MASKS, {"pathology": (("lesion", 5),)}, r"draws no label.*mask=source.put"),
        (replace(CARD, has_guidance=False), {"guidance": 2}, "leave guidance at 0, got 2"),
        (CARD, {"body_region": "chest"}, r"not told a body region, got \('chest', 'chest'\)"),
        (MASKS, {"body_region": ("chest", "abdomn")}, "`abdomn`; did you mean `abdomen`?"),
        (MASKS, {"body_region": ("abdomen", "head")}, "from head to foot"),
        (
            MASKS,
            {"size": (64, 64, 32)},
            r"row cube \(64 × 64 × 64 mm\).*size \(64, 64, 64\) and spacing \(2, 2, 1\)"
            r".*allow_out_of_distribution=True",
        ),
    ],
)
def test_conditions_that_a_model_does_not_know_are_refused(
    card: VariantCard, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        card.resolve(asked(**fields))


def test_outside_the_training_data_is_made_if_it_is_allowed() -> None:
    resolved = MASKS.resolve(asked(size=(64, 64, 32), allow_out_of_distribution=True))
    assert resolved.size == (64, 64, 32)
    assert resolved.allow_out_of_distribution
    assert MASKS.outside(resolved) is not None


def test_inside_the_training_data_the_permission_does_not_change_the_key() -> None:
    allowed = MASKS.resolve(asked(allow_out_of_distribution=True))
    assert allowed == MASKS.resolve(asked())
    assert not allowed.allow_out_of_distribution


def test_other_names_of_a_label_give_the_same_spec() -> None:
    one = MASKS.resolve(asked(mask=DIGEST, anatomy=("organ_left",)))
    assert one == MASKS.resolve(asked(mask=DIGEST, anatomy=("organ",)))


def test_the_body_region_has_a_default_where_no_mask_says_it() -> None:
    assert MASKS.resolve(asked()).body_region == ("chest", "abdomen")
    assert MASKS.resolve(asked(mask=DIGEST)).body_region is None
    assert MASKS.resolve(asked(mask=DIGEST, body_region="head")).body_region == ("head", "head")


def test_a_label_comes_with_a_mask_or_from_a_model_that_draws_one() -> None:
    given = asked(mask=DIGEST)
    assert [c.gives_label(asked()) for c in (CARD, MASKS, IMAGES)] == [True, False, False]
    assert [c.gives_label(given) for c in (CARD, MASKS, IMAGES)] == [True, True, False]


def test_a_card_with_all_of_this_survives_json() -> None:
    assert VariantCard.from_json(MASKS.to_json()) == MASKS


def test_no_mask_of_a_bank_is_chosen_for_the_subject_of_an_image() -> None:
    bank = replace(MASKS, mask_bank="ab" * 32, image_weights="cd" * 32)
    assert bank.binds_mask(asked())
    assert not bank.binds_mask(asked(image=DIGEST))
    assert not bank.gives_label(asked(image=DIGEST))
    assert bank.gives_label(asked(image=DIGEST, mask=DIGEST))


def test_no_mask_is_drawn_for_the_subject_of_an_image() -> None:
    drawing = replace(CARD, default_mask_steps=10, image_weights="cd" * 32)
    assert drawing.resolve(asked()).mask_steps == 10
    assert drawing.resolve(asked(image=DIGEST)).mask_steps is None
