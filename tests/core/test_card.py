"""VariantCard: what `resolve` fills in, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nvgen_aug.card import VariantCard
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
