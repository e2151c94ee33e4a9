"""Stand-ins: the same brain for the same number, none shared between splits."""

from __future__ import annotations

import numpy as np
import pytest

from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIn
from nvgen_aug.training.stand_ins import StandIns
from nvgen_aug.training.stand_ins import draw_lesion_diameters
from nvgen_aug.training.stand_ins import icbm152
from tests.training.tiny_pool import COARSE

T1, T2, FLAIR = MODALITIES


def make(index: int = 0, split: str = "train", modality: str | None = None) -> StandIn:
    return StandIns(split, modality=modality, grid=COARSE).make(index)


def test_a_stand_in_is_the_same_every_time_whatever_was_made_before() -> None:
    supply = StandIns("train", grid=COARSE)
    first = supply.make(3)
    supply.make(1)
    np.random.seed(5)
    again = supply.make(3)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert (first.modality, first.seed, first.lesions) == (
        again.modality,
        again.seed,
        again.lesions,
    )


def test_another_index_is_another_brain() -> None:
    assert not np.array_equal(make(0).label, make(1).label)


def test_no_two_splits_share_a_brain() -> None:
    made = [make(0, split) for split in ("train", "held-out", "demo")]
    assert len({m.seed for m in made}) == 3
    assert len({m.label.tobytes() for m in made}) == 3


def test_each_contrast_is_drawn_sooner_or_later() -> None:
    assert {make(index).modality for index in range(12)} == set(MODALITIES)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_contrast_that_is_asked_for_is_made(modality: str) -> None:
    assert make(0, modality=modality).modality == modality


def test_matched_scans_share_the_anatomy_and_no_chance_besides() -> None:
    scans = StandIns("train", grid=COARSE).matched(2)
    assert tuple(scan.modality for scan in scans) == MODALITIES
    drawn = make(2)
    assert all(scan.lesions == drawn.lesions for scan in scans)
    for scan in scans:
        np.testing.assert_array_equal(scan.label, drawn.label)
    # These two show the template's detail alike; what else they have in common is noise.
    apart = correlation(scans[1], scans[2])
    copied = correlation(make(2, modality=T2), make(2, modality=FLAIR))
    assert apart < copied - 0.05


def correlation(one: StandIn, two: StandIn) -> float:
    """Of what changes from voxel to voxel inside white matter."""
    inside = (one.label == 3)[:, :, 1:] & (one.label == 3)[:, :, :-1]
    return float(np.corrcoef(*(np.diff(s.image, axis=2)[inside] for s in (one, two)))[0, 1])


def test_two_contrasts_of_one_index_show_one_anatomy() -> None:
    one, two = make(2, modality=T1), make(2, modality=FLAIR)
    np.testing.assert_array_equal(one.label, two.label)
    assert not np.array_equal(one.image, two.image)


@pytest.mark.parametrize(
    ("modality", "from_dark_to_bright"), [(T1, (1, 2, 3)), (T2, (3, 2, 1)), (FLAIR, (1, 3, 2))]
)
def test_tissues_are_as_bright_as_in_the_contrast_that_they_imitate(
    modality: str, from_dark_to_bright: tuple[int, ...]
) -> None:
    made = make(1, modality=modality)
    medians = [np.median(made.image[made.label == tissue]) for tissue in from_dark_to_bright]
    assert medians == sorted(medians)


def test_lesions_are_dark_in_t1_and_bright_in_flair() -> None:
    for index in range(20):
        t1, flair = make(index, modality=T1), make(index, modality=FLAIR)
        if (t1.label == 4).sum() >= 8:
            break
    lesion, white = t1.label == 4, t1.label == 3
    assert np.median(t1.image[lesion]) < np.median(t1.image[white])
    assert np.median(flair.image[lesion]) > np.median(flair.image[white])


def test_healthy_brains_have_no_lesions() -> None:
    for index in range(3):
        made = StandIns("demo", grid=COARSE, lesions=False).make(index)
        assert made.lesions == ()
        assert made.label.max() == 3


def test_the_image_is_zero_outside_the_brain_and_finite_inside() -> None:
    made = make(4)
    assert made.image.dtype == np.float32
    assert made.label.dtype == np.uint8
    assert np.isfinite(made.image).all()
    assert (made.image[made.label == 0] == 0).all()
    assert 0.2 < np.median(made.image[made.label > 0]) < 1.2
    np.testing.assert_array_equal(made.affine, COARSE.affine)


def test_an_unknown_split_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="split must be one of train, held-out, demo, got 'test'"):
        StandIns("test")


def test_an_unknown_contrast_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"modality must be one of mri_t1_.*, got 'ct'"):
        StandIns(modality="ct")


def test_lesions_are_0_to_6_in_number_and_5_to_20_mm_across() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_lesion_diameters(rng) for _ in range(300)]
    assert {len(d) for d in drawn} == set(range(7))
    diameters = [mm for d in drawn for mm in d]
    assert min(diameters) >= 5
    assert max(diameters) <= 20
    assert np.median(diameters) < 12.5  # small ones more often


def test_the_template_is_one_brain_at_2_mm() -> None:
    template = icbm152()
    assert template.maps.shape[0] == 4
    assert template.spacing == 2.0
    litres = np.clip(template.maps[:3].sum(axis=0), 0, 1).sum() * 2.0**3 / 1e6
    assert 1.2 < litres < 2.2
    border = np.ones(template.maps.shape[1:], bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert template.maps[:3, border].sum(axis=0).max() < 0.5  # background: nothing is cut off
