"""A mask of the caller's is checked, turned upright and put into a body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.masks.given_mask import body_region
from nvgen_aug.generators.maisi.masks.given_mask import given_mask
from nvgen_aug.generators.maisi.masks.given_mask import with_body
from nvgen_aug.generators.maisi.variants import RFLOW_CT
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob

SIZE = (24, 20, 8)
SPACING = (2.0, 2.0, 3.0)
AFFINE = np.diag([*SPACING, 1.0])
SPEC = VolumeSpec("rflow-ct", seed=1, size=SIZE, spacing=SPACING, mask="ab" * 32)


def organs(body: bool = True) -> np.ndarray[Any, np.dtype[np.uint8]]:
    label = np.zeros(SIZE, np.uint8)
    if body:
        label[4:20, 4:16] = 200
    label[8:12, 8:12, 2:6] = 1  # liver
    label[14:17, 8:12, 3:5] = 28  # left lung upper lobe
    return label


def given(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any] = AFFINE) -> Any:
    return given_mask(Blob(array, affine), SPEC, RFLOW_CT)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_any_type_of_whole_numbers_will_do(kind: type) -> None:
    found = given(organs().astype(kind))
    assert found.label.dtype == np.uint8
    np.testing.assert_array_equal(found.label, organs())
    assert not found.has_drawn_body


@pytest.mark.parametrize("axes", ["LPS", "SAR", "AIL"])
def test_a_mask_of_any_orientation_is_turned_upright(axes: str) -> None:
    import nibabel.orientations as o

    turn = o.ornt_transform(o.axcodes2ornt("RAS"), o.axcodes2ornt(axes))
    turned = o.apply_orientation(organs(), turn)
    found = given(turned, AFFINE @ o.inv_ornt_aff(turn, SIZE))
    np.testing.assert_array_equal(found.label, organs())
    np.testing.assert_allclose(found.affine, AFFINE)


def test_the_place_of_a_mask_in_the_world_is_kept() -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = (-30.0, 12.5, 400.0)
    np.testing.assert_allclose(given(organs(), moved).affine, moved)


def with_value(value: float) -> np.ndarray[Any, Any]:
    array = organs().astype(np.float32)
    array[0, 0, :3] = value
    return array


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (with_value(np.nan), "3 voxels that are NaN"),
        (with_value(0.5), r"no whole numbers, such as 0\.5; resample label maps to the nearest"),
        (with_value(300), "lie in 0 to 255, got 0 to 300"),
        (with_value(-1), "lie in 0 to 255, got -1 to 200"),
        (np.zeros(SIZE, np.uint8), "the mask is empty"),
        (organs()[None], r"must be \[X, Y, Z\], got uint8 \(1, 24, 20, 8\)"),
        (organs().astype(str), "must hold numbers"),
        (organs()[:12], r"has \(12, 20, 8\) voxels .*ask size=\(12, 20, 8\)"),
        (
            with_value(140),
            r"`rflow-ct` lacks: 140 \(3 voxels\).* for old, new in \{140: 0\}\.items\(\)",
        ),
    ],
)
def test_a_mask_that_cannot_be_followed_is_refused_with_what_it_has(
    array: np.ndarray[Any, Any], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        given(array)


def test_the_loop_that_the_error_shows_makes_the_mask_legal() -> None:
    mask = with_value(140)
    with pytest.raises(SpecError) as caught:
        given(mask)
    loop = str(caught.value).partition("beginning with ")[2]
    exec(loop, {"mask": mask})
    given(mask)


def test_a_mask_of_other_spacing_is_refused_with_both() -> None:
    with pytest.raises(
        SpecError, match=r"are \(1\.0, 1\.0, 1\.0\) mm.*spacing \(2\.0, 2\.0, 3\.0\)"
    ):
        given(organs(), np.eye(4))


def test_a_mask_that_did_not_come_along_is_refused() -> None:
    with pytest.raises(SpecError, match="`put` it first"):
        given_mask(None, SPEC, RFLOW_CT)


def test_a_mask_without_body_gets_one_around_its_labels() -> None:
    found = given(organs(body=False))
    assert found.has_drawn_body
    label = organs(body=False)
    np.testing.assert_array_equal(found.label[label > 0], label[label > 0])
    assert set(np.unique(found.label)) == {0, 1, 28, 200}
    body = found.label > 0
    assert not body[:, :, 0].any()  # no label in the slice, so nothing says where the body is
    assert body[12:14, 8:12, 3].all()  # between the organs
    # 10 mm around a liver that begins at voxel 8, which is 5 voxels.
    assert np.flatnonzero(body[:, 10, 2]).tolist() == list(range(3, 17))


def test_a_variant_without_body_label_leaves_the_mask_alone() -> None:
    label = (organs() > 0).astype(np.uint8)
    spec = replace(SPEC, variant="tiny-brain")
    found = given_mask(Blob(label, AFFINE), spec, TINY_BRAIN)
    np.testing.assert_array_equal(found.label, label)


@pytest.mark.parametrize("voxels", [1, 2, 3])
def test_few_labelled_voxels_have_a_body_too(voxels: int) -> None:
    label = np.zeros(SIZE, np.uint8)
    label[10 : 10 + voxels, 10, 4] = 1  # on one line: there is no hull
    assert (with_body(label, SPACING[:2])[:, :, 4] == 200).sum() > 20


@pytest.mark.parametrize(
    ("ids", "region"),
    [
        ((22,), ("head", "head")),
        ((28, 1), ("chest", "abdomen")),
        ((120, 94, 200), ("head", "lower")),
        ((14, 93), ("abdomen", "lower")),
    ],
)
def test_the_body_region_is_read_from_the_labels(
    ids: tuple[int, ...], region: tuple[str, str]
) -> None:
    assert body_region(np.array(ids, np.uint8)) == region


def test_labels_of_no_region_are_refused_with_what_to_say() -> None:
    with pytest.raises(SpecError, match=r"say which it is, such as body_region=\('chest'"):
        body_region(np.array([200, 62], np.uint8))
