"""VolumeSpec: equal specs mean equal keys, and wrong ones say what is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import MAX_SEED
from nvgen_aug.spec import VolumeSpec

CARD = PhantomGenerator().card
lengths = st.floats(0.1, 10.0, allow_nan=False)
legal = st.sampled_from([8, 16, 32, 64])
specs = st.builds(
    VolumeSpec,
    st.just("phantom"),
    seed=st.integers(0, MAX_SEED),
    size=st.none() | st.tuples(legal, legal, legal),
    spacing=st.none() | st.tuples(lengths, lengths, lengths),
    modality=st.sampled_from([None, "bright", "dark"]),
    anatomy=st.lists(st.sampled_from(["body", "organ"]), max_size=2).map(tuple),
    pathology=st.lists(st.tuples(st.just("lesion"), lengths), max_size=3).map(tuple),
    steps=st.none() | st.integers(1, 100),
    guidance=st.none() | st.floats(0, 10),
)


@given(specs)
def test_a_spec_survives_json_with_its_key(spec: VolumeSpec) -> None:
    again = VolumeSpec.from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert CARD.volume_key(CARD.resolve(again)) == CARD.volume_key(CARD.resolve(spec))


def test_what_later_versions_added_leaves_the_keys_of_specs_without_it() -> None:
    plain = VolumeSpec("phantom", seed=3)
    assert "augment_mask" not in plain.to_json()
    assert 'image"' not in plain.to_json()
    changed = replace(plain, mask="ab" * 32, augment_mask=True)
    assert VolumeSpec.from_json(changed.to_json()) == changed
    kept = replace(changed, augment_mask=False)
    assert CARD.latent_key(CARD.resolve(changed)) != CARD.latent_key(CARD.resolve(kept))


@given(specs, specs)
def test_specs_have_one_key_exactly_if_they_are_equal(one: VolumeSpec, two: VolumeSpec) -> None:
    one, two = CARD.resolve(one), CARD.resolve(two)
    assert (CARD.latent_key(one) == CARD.latent_key(two)) == (one == two)


@given(specs)
def test_resolving_twice_is_resolving_once(spec: VolumeSpec) -> None:
    resolved = CARD.resolve(spec)
    assert resolved.is_resolved
    assert CARD.resolve(resolved) == resolved


def test_lists_numpy_numbers_and_integral_lengths_mean_the_same_spec() -> None:
    plain = VolumeSpec("phantom", seed=3, size=(8, 8, 8), spacing=(1.0, 2.0, 3.0), guidance=2.0)
    loose: Any = {
        "seed": np.int64(3),
        "size": np.array([8, 8, 8]),
        "spacing": [1, 2, 3],
        "guidance": 2,
    }
    assert VolumeSpec("phantom", **loose).to_json() == plain.to_json()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"seed": -1}, "seed must lie in"),
        ({"seed": 2**63}, "seed must lie in"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"size": (8, 8)}, r"size must be three numbers \(x, y, z\), got \(8, 8\)"),
        ({"size": 8}, r"size must be three numbers \(x, y, z\), got 8"),
        ({"size": (8, 8, 0)}, r"size must lie in \[1, 4096\], got 0"),
        ({"size": (8, 8, 8.5)}, "size must be an integer, got 8.5"),
        ({"spacing": (1, 1, -1)}, "spacing must be a finite length > 0 mm, got -1"),
        ({"spacing": (1, 1, math.nan)}, "spacing must be a finite length > 0 mm, got nan"),
        ({"spacing": (1, 1, "wide")}, "spacing must be a length in mm, got 'wide'"),
        ({"pathology": ["lesion"]}, r"pathology must be pairs \(label name, diameter in mm\)"),
        ({"pathology": [("lesion", 0)]}, "pathology diameter must be a finite length > 0"),
        ({"mask": "abc"}, "mask must be a digest of 64 hex digits from `source.put`, got 'abc'"),
        ({"steps": 0}, r"steps must lie in \[1, 10000\], got 0"),
        ({"guidance": -1}, "guidance must be a finite number ≥ 0, got -1"),
        ({"guidance": math.inf}, "guidance must be a finite number ≥ 0, got inf"),
        ({"guidance": "high"}, "guidance must be a finite number ≥ 0, got 'high'"),
        ({"guidance_interval": (0.5, 0.2)}, r"guidance_interval must be 0 ≤ least ≤ greatest ≤ 1"),
        ({"guidance_interval": (0, 2)}, r"guidance_interval must be .*, got \(0, 2\)"),
        ({"guidance_interval": 0.5}, "guidance_interval must be .*, got 0.5"),
        ({"modality": 5}, "modality must be a text, got 5"),
        ({"solver": 5}, "solver must be a text, got 5"),
        ({"mask": 5}, "mask must be a text, got 5"),
        ({"anatomy": "liver"}, "anatomy must be a list, got 'liver'"),
        ({"pathology": 5}, "pathology must be a list, got 5"),
        ({"numerics": "fast"}, "numerics must be one of .*, got 'fast'"),
    ],
)
def test_a_wrong_field_is_named_with_what_came(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        VolumeSpec("phantom", **{"seed": 0, **fields})


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 1}', '{"variant": "x", "seed": 1, "n": 2}'])
def test_text_that_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"a spec (must|needs)"):
        VolumeSpec.from_json(text)


def test_the_json_is_one_canonical_line() -> None:
    text = VolumeSpec("phantom", seed=1).to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
