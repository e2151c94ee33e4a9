"""A given image is checked, and its subject is rendered in the contrast that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.given_image import given_image
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.generators.tiny import TINY
from tests.generators.tiny import tiny_networks
from tests.generators.tiny import write_files
from tests.generators.tiny import write_image_control

Array = np.ndarray[Any, Any]
AFFINE = np.array([[6.0, 0, 0, -90], [0, 6.0, 0, -96], [0, 0, 6.0, -80], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> MaisiGenerator:
    folder = write_files(tmp_path_factory.mktemp("weights"))
    return MaisiGenerator(TINY, weights=write_image_control(folder))


def head(brightness: float = 900.0, radius: float = 12.0) -> Array:
    x, y, z = np.indices((32, 32, 32)) - 15.5
    inside = x**2 + y**2 + 1.4 * z**2 < radius**2
    return (inside * (brightness - 10 * np.abs(x))).astype(np.int16)


def blob(array: Array | None = None, affine: Array = AFFINE) -> Blob:
    return Blob(head() if array is None else array, affine)


def spec(image: Blob, seed: int = 3, **fields: Any) -> VolumeSpec:
    return VolumeSpec(TINY.name, seed=seed, image=image.digest(), **fields)


def mask(affine: Array = AFFINE) -> Blob:
    return Blob((head() > 0).astype(np.uint8), affine)


def test_an_image_alone_gives_an_image_alone_that_lies_where_it_lies(
    generator: MaisiGenerator,
) -> None:
    image = blob()
    volume = generator.generate(spec(image), image=image).volume
    assert volume.label is None
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.provenance.image_source == image.digest()
    assert volume.provenance.mask_source == "none"


def test_another_subject_and_another_contrast_give_other_volumes(
    generator: MaisiGenerator,
) -> None:
    first, second = blob(), blob(head(radius=9.0))
    asked = (spec(first), spec(second), spec(first, modality="mri_t2_skull_stripped"))
    given = (first, second, first)
    made = [generator.latent(s, image=i).tensor for s, i in zip(asked, given, strict=True)]
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    np.testing.assert_array_equal(generator.latent(spec(first), image=first).tensor, made[0])


def test_a_mask_beside_an_image_is_the_label_and_steers_nothing(generator: MaisiGenerator) -> None:
    image, label = blob(), mask()
    both = generator.latent(spec(image, mask=label.digest()), label, image)
    assert both.label is not None
    np.testing.assert_array_equal(both.label[0], label.array)
    alone = generator.latent(spec(image), image=image)
    np.testing.assert_array_equal(both.tensor, alone.tensor)


def test_a_mask_that_lies_elsewhere_is_refused(generator: MaisiGenerator) -> None:
    image, moved = blob(), AFFINE.copy()
    moved[0, 3] += 2.0
    label = mask(moved)
    with pytest.raises(SpecError, match=r"mask and image must lie on the same voxels.*resample"):
        generator.latent(spec(image, mask=label.digest()), label, image)


def test_an_image_turned_another_way_is_the_same_subject(generator: MaisiGenerator) -> None:
    image = blob()
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 31
    turned = Blob(np.ascontiguousarray(image.array[::-1]), AFFINE @ flip)
    made = [generator.latent(spec(i), image=i) for i in (image, turned)]
    np.testing.assert_array_equal(made[0].tensor, made[1].tensor)
    np.testing.assert_allclose(made[0].affine, made[1].affine)


def test_an_image_in_a_scanners_own_unit_is_scaled_and_provenance_says_by_how_much(
    generator: MaisiGenerator,
) -> None:
    image = blob((head() // 9).astype(np.float32))
    given = given_image(image, generator.card.resolve(spec(image)), TINY)
    assert np.percentile(given.values[given.values > 0], 99) == pytest.approx(0.9, rel=1e-3)
    volume = generator.generate(spec(image), image=image).volume
    assert volume.provenance.image_source == f"{image.digest()} x {given.factor:g}"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (head()[:16], r"the image has \(16, 32, 32\) voxels .*asks size \(32, 32, 32\)"),
        (head()[None], r"must be \[X, Y, Z\], got int16 \(1, 32, 32, 32\)"),
        (np.full((32, 32, 32), 5.0), "is constant, all its voxels are 5; give the scan"),
        (np.where(head() > 0, head(), np.nan), r"voxels that are not finite; set them to 0"),
        (head() + 400, "100% of the voxels .* are above 0.*0 outside the subject"),
        (-head(), "0% of the voxels .* are above 0"),
        (head().astype(str), "must hold numbers"),
    ],
)
def test_what_cannot_be_a_scan_is_refused(
    generator: MaisiGenerator, array: Array, text: str
) -> None:
    image = blob(array)
    with pytest.raises(SpecError, match=text):
        generator.latent(spec(image), image=image)


def test_an_image_with_other_voxels_is_refused_with_both_spacings(
    generator: MaisiGenerator,
) -> None:
    image = blob(affine=np.diag([5.0, 6.0, 6.0, 1.0]))
    with pytest.raises(SpecError, match=r"the image's voxels are \(5.0, 6.0, 6.0\) mm, but"):
        generator.latent(spec(image), image=image)


def test_an_image_that_did_not_come_along_is_refused(generator: MaisiGenerator) -> None:
    with pytest.raises(SpecError, match="no image came with it; `put` it first"):
        generator.latent(spec(blob()))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"numerics": "reference"}, "no released ControlNet that follows images"),
        ({"pathology": (("lesion", 8.0),)}, r"shows what the image shows, so \['lesion'\] cannot"),
        ({"anatomy": ("white matter",)}, r"so \['white matter'\] cannot be asked for"),
        ({"mask": "ab" * 32, "augment_mask": True}, "the image would stay as it is; leave one"),
    ],
)
def test_what_an_image_decides_cannot_be_asked_for(
    generator: MaisiGenerator, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        generator.card.resolve(spec(blob(), **fields))


def test_weights_without_an_image_controlnet_refuse_images(tmp_path: Path) -> None:
    generator = MaisiGenerator(TINY, weights=write_files(tmp_path))
    with pytest.raises(SpecError, match="`tiny-test` cannot follow an image; leave `image` out"):
        generator.card.resolve(spec(blob()))


def test_an_image_controlnet_of_other_weights_is_refused(tmp_path: Path) -> None:
    write_image_control(write_files(tmp_path))
    write_files(tmp_path, tiny_networks(seed=5))
    with pytest.raises(WeightsError, match=r"was trained for the weights \w{16}, those beside it"):
        MaisiGenerator(TINY, weights=tmp_path)


def test_a_new_image_controlnet_changes_the_keys_of_volumes_that_follow_images_alone(
    tmp_path: Path,
) -> None:
    cards = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        folder = write_image_control(write_files(folder), seed=seed)
        cards.append(MaisiGenerator(TINY, weights=folder).card)
    alone = [card.volume_key(card.resolve(VolumeSpec(TINY.name, seed=1))) for card in cards]
    following = [card.volume_key(card.resolve(spec(blob()))) for card in cards]
    assert alone[0] == alone[1]
    assert following[0] != following[1]
