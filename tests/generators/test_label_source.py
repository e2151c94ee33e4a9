"""A mask of the caller's can be resampled, augmented and given tumours before it steers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from nvgen_aug.ball import ball_volume
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.masks.fitting import fitted
from nvgen_aug.generators.maisi.masks.given_mask import upright
from nvgen_aug.generators.maisi.masks.label_source import LabelSource
from nvgen_aug.generators.maisi.masks.label_source import SourcedLabel
from nvgen_aug.generators.maisi.variants import RFLOW_CT
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob

MM = 3.0
AFFINE = np.diag([MM, MM, MM, 1.0])
SIZE = (40, 40, 32)


def torso(*, tumour: int = 0) -> Blob:
    label = np.zeros(SIZE, np.uint8)
    label[3:37, 3:37, 2:30] = 200
    label[8:32, 8:32, 6:26] = 1
    if tumour:
        label[16:22, 16:22, 12:18] = tumour
    return Blob(label, AFFINE)


def spec(mask: Blob, seed: int = 0, **asked: object) -> VolumeSpec:
    fields: dict[str, object] = {"size": SIZE, "spacing": (MM, MM, MM), **asked}
    return VolumeSpec("rflow-ct", seed=seed, mask=mask.digest(), **fields)  # type: ignore[arg-type]


def sourced(mask: Blob, seed: int = 0, **asked: object) -> SourcedLabel:
    source = LabelSource(RFLOW_CT, device=torch.device("cpu"))
    return source.label(spec(mask, seed, **asked), mask)


def labelled(made: SourcedLabel) -> NDArray[np.uint8]:
    assert made.label is not None
    return made.label


def test_a_mask_that_nothing_is_done_to_is_its_own_source() -> None:
    mask = torso()
    made = sourced(mask)
    np.testing.assert_array_equal(labelled(made), mask.array)
    assert (made.source, made.parent) == (mask.digest(), "")


def test_tumours_are_put_into_a_mask_at_their_sizes_and_apart() -> None:
    mask = torso()
    made = sourced(mask, pathology=(("hepatic tumor", 24.0), ("hepatic tumor", 15.0)))
    regions, count = ndimage.label(labelled(made) == 26, np.ones((3, 3, 3)))
    assert count == 2
    volumes = sorted(np.bincount(regions.ravel())[1:] * MM**3)
    assert volumes == pytest.approx([ball_volume(15.0), ball_volume(24.0)], rel=0.1)


def test_an_inserted_tumour_and_the_mask_below_are_in_the_provenance() -> None:
    mask = torso()
    made = sourced(mask, pathology=(("hepatic tumor", 20.0),))
    assert made.source == f"{mask.digest()}: hepatic tumor of 20 mm inserted"
    assert made.parent == mask.digest()


def test_one_seed_puts_a_tumour_in_one_place_and_another_elsewhere() -> None:
    mask, asked = torso(), {"pathology": (("hepatic tumor", 20.0),)}
    one, same, other = (labelled(sourced(mask, seed, **asked)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_many_tumours_stay_apart_until_the_organ_is_full() -> None:
    mask = torso()
    with pytest.raises(SpecError, match=r"liver of the mask (is|are) full|finds no place"):
        sourced(mask, pathology=(("hepatic tumor", 40.0),) * 30)


def test_a_tumour_in_a_mask_of_a_brain_grows_in_white_matter() -> None:
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:28, 4:28, 4:28] = 2
    label[8:24, 8:24, 8:24] = 3
    mask = Blob(label, AFFINE)
    asked = VolumeSpec(
        "tiny-brain",
        seed=0,
        size=(32, 32, 32),
        spacing=(MM, MM, MM),
        mask=mask.digest(),
        pathology=(("lesion", 15.0),),
    )
    made = LabelSource(TINY_BRAIN, device=torch.device("cpu")).label(asked, mask)
    changed = labelled(made) != label
    assert set(np.unique(label[changed])) == {3}
    assert changed.sum() * MM**3 == pytest.approx(ball_volume(15.0), rel=0.1)


def test_augmentation_moves_the_tumour_of_a_mask_and_says_so() -> None:
    mask = torso(tumour=26)
    made = sourced(mask, augment_mask=True)
    assert (labelled(made) != mask.array).any()
    assert made.source == f"{mask.digest()}: hepatic tumor moved"


def test_a_mask_without_a_tumour_is_zoomed_when_it_is_augmented() -> None:
    made = sourced(torso(), augment_mask=True)
    assert made.source.endswith(": zoomed")


def test_seeds_augment_one_mask_in_ways_of_their_own() -> None:
    mask = torso(tumour=26)
    one, same, other = (labelled(sourced(mask, s, augment_mask=True)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_lesion_of_a_brain_is_moved_within_its_tissues() -> None:
    label = np.full((32, 32, 32), 3, np.uint8)
    label[12:18, 12:18, 12:18] = 4
    mask = Blob(label, AFFINE)
    asked = replace(
        spec(mask, augment_mask=True), variant="tiny-brain", size=(32, 32, 32), anatomy=("lesion",)
    )
    made = LabelSource(TINY_BRAIN, device=torch.device("cpu")).label(asked, mask)
    assert made.source.endswith(": lesion moved")
    assert set(np.unique(labelled(made)[label == 4])) <= {3, 4}


def test_a_mask_is_resampled_about_its_middle_if_the_spec_says_so() -> None:
    mask = torso()
    made = sourced(mask, fit_mask=True, size=(64, 64, 64), spacing=(2.0, 2.0, 2.0))
    label = labelled(made)
    assert label.shape == (64, 64, 64)
    assert (label == 1).sum() * 8.0 == pytest.approx((mask.array == 1).sum() * 27.0, rel=0.05)
    centres = [
        affine[:3, :3] @ np.argwhere(a == 1).mean(axis=0) + affine[:3, 3]
        for a, affine in ((mask.array, AFFINE), (label, made.affine))
    ]
    np.testing.assert_allclose(centres[0], centres[1], atol=1.5)
    assert made.source == f"{mask.digest()}: resampled"


def test_a_mask_of_the_right_grid_is_not_resampled() -> None:
    mask = torso()
    assert sourced(mask, fit_mask=True).source == mask.digest()


def test_without_a_word_a_mask_of_another_grid_is_refused_with_the_way_out() -> None:
    with pytest.raises(SpecError, match="fit_mask=True"):
        sourced(torso(), size=(64, 64, 64))


def test_voxels_map_to_where_they_were() -> None:
    label = np.arange(1, 1 + 5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    new, affine = fitted(label, AFFINE, (10, 12, 14), (MM / 2, MM / 2, MM / 2))
    np.testing.assert_array_equal(new, np.repeat(np.repeat(np.repeat(label, 2, 0), 2, 1), 2, 2))
    # The corner of the first voxel stays where it was, half a voxel before its middle.
    np.testing.assert_allclose(affine[:3, 3], -MM / 4)


def test_resampled_twice_about_the_middle_a_mask_is_back() -> None:
    label = np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    new, affine = fitted(label, AFFINE, (12, 11, 10), (MM, MM, MM))
    back, again = fitted(new, affine, (6, 5, 4), (MM, MM, MM))
    np.testing.assert_array_equal(back, label)
    np.testing.assert_allclose(again, AFFINE)


def test_a_tumour_that_is_lost_when_the_mask_is_resampled_is_an_error() -> None:
    label = torso().array.copy()
    label[16, 17, 12] = 26
    mask = Blob(label, AFFINE)
    with pytest.raises(SpecError, match=r"resampled .* has no \['hepatic tumor'\]"):
        sourced(
            mask,
            fit_mask=True,
            size=(20, 20, 20),
            spacing=(8.0, 8.0, 8.0),
            anatomy=("hepatic tumor",),
        )


def test_a_mask_without_what_anatomy_asks_for_is_refused() -> None:
    with pytest.raises(SpecError, match=r"has no \['spleen'\]"):
        sourced(torso(), anatomy=("liver", "spleen"))


def test_an_inserted_tumour_is_the_anatomy_that_is_asked_for() -> None:
    made = sourced(torso(), pathology=(("hepatic tumor", 20.0),), anatomy=("hepatic tumor",))
    assert (labelled(made) == 26).any()


def test_a_mask_in_another_orientation_is_turned_before_it_is_resampled() -> None:
    mask = torso(tumour=26)
    turned = Blob(np.ascontiguousarray(mask.array[::-1]), AFFINE @ np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(upright(turned.array, turned.affine)[0], mask.array)  # type: ignore[arg-type]
    asked: dict[str, object] = {"fit_mask": True, "size": (32, 32, 32)}
    np.testing.assert_array_equal(
        labelled(sourced(turned, **asked)), labelled(sourced(mask, **asked))
    )
