"""Harmonise takes what gives an image's maker away, and leaves what lies in the body."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.data import MetaTensor
from scipy import ndimage

from nvgen_aug.errors import DataError
from nvgen_aug.evaluation.detectability import detectability
from nvgen_aug.transforms import Harmonise
from nvgen_aug.transforms import HarmoniseD
from nvgen_aug.transforms import Harmonised
from nvgen_aug.transforms import HarmoniseDict

EDGE = 24
CENTRE = (slice(None), EDGE // 2, EDGE // 2, EDGE // 2)


def anatomy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth tissue in a ball, in HU, and the ball."""
    rng = np.random.default_rng(seed)
    grid = np.indices((EDGE, EDGE, EDGE)) - (EDGE - 1) / 2
    body = np.sqrt((grid**2).sum(axis=0)) < EDGE * rng.uniform(0.36, 0.44)
    tissue = ndimage.gaussian_filter(rng.normal(0, 1, body.shape), 3)
    return 40 + 120 * tissue / tissue.std(), body


def scan(seed: int) -> np.ndarray:
    """As a scanner has it: noise everywhere, also in the air, and a wide range."""
    tissue, body = anatomy(seed)
    rng = np.random.default_rng((seed, 1))
    image = np.where(body, tissue, -1000) + rng.normal(0, 20, body.shape)
    return image[None].astype(np.float32)


def generated(seed: int) -> np.ndarray:
    """As a generator leaves it: air at exactly −1000, clipped, rounded, little noise."""
    tissue, body = anatomy(seed)
    rng = np.random.default_rng((seed, 2))
    image = np.where(body, tissue + rng.normal(0, 5, body.shape), -1000)
    return np.rint(np.clip(image, -1000, 250))[None].astype(np.int16)


def test_what_gave_the_maker_away_is_gone() -> None:
    pytest.importorskip("sklearn")
    real, synthetic = [scan(k) for k in range(24)], [generated(100 + k) for k in range(24)]
    harmonise = Harmonise(clip=(-1000, 250), noise=0.03).set_random_state(0)
    before = detectability(real, synthetic)
    after = detectability([harmonise(i) for i in real], [harmonise(i) for i in synthetic])
    assert before.auc > 0.95
    assert after.auc < 0.7
    assert after.low < 0.6


def test_air_has_the_same_noise_whoever_made_it() -> None:
    harmonise = Harmonise(clip=(-1000, 250), noise=0.02).set_random_state(0)
    for image in (scan(1), generated(2)):
        air = harmonise(image)[:, :5, :5, :5].numpy()
        assert abs(float(air.mean())) < 0.008
        assert float(air.std()) == pytest.approx(0.02, rel=0.2)


def test_dark_parts_inside_the_body_stay() -> None:
    image = scan(3)
    image[0, 9:15, 9:15, 9:15] = -950  # a lung: as dark as air, and closed in
    found = Harmonise(clip=(-1000, 250), noise=0.0, air=0.1)(image)
    assert float(found[CENTRE]) == pytest.approx(50 / 1250, abs=1e-3)


def test_contrast_in_the_body_is_kept() -> None:
    image = scan(4)
    found = Harmonise(clip=(-1000, 1000), noise=0.0)(image)
    body = anatomy(4)[1]
    np.testing.assert_allclose(found[0].numpy()[body], (image[0][body] + 1000) / 2000, atol=1e-5)


def test_a_state_gives_the_same_noise_again() -> None:
    image = scan(5)
    one = Harmonise().set_random_state(7)
    first, second = one(image), one(image)
    again = Harmonise().set_random_state(7)(image)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(one(image, randomize=False), second)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, MetaTensor])
def test_any_array_becomes_float32(kind: Any) -> None:
    image = scan(6) if kind is not MetaTensor else torch.from_numpy(scan(6))
    found = Harmonise()(kind(image))
    assert found.dtype == torch.float32
    assert found.shape == (1, EDGE, EDGE, EDGE)
    assert isinstance(found, MetaTensor) == (kind is MetaTensor)


def test_the_place_of_an_image_is_kept_and_the_input_is_left_alone() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(scan(7)), affine=affine, meta={"filename_or_obj": "a"})
    before = image.clone()
    found = Harmonise()(image)
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, affine)
    assert found.meta["filename_or_obj"] == "a"
    assert torch.equal(image, before)


def test_a_flat_image_and_an_empty_one_do_no_harm() -> None:
    assert bool(torch.isfinite(Harmonise()(np.zeros((1, 8, 8, 8)))).all())
    assert Harmonise()(np.zeros((0, 8, 8, 8), np.float32)).shape == (0, 8, 8, 8)


def test_the_dictionary_version_touches_its_keys_alone() -> None:
    data = {"image": scan(8), "label": np.ones((1, 4, 4, 4)), "name": "a"}
    found = Harmonised("image").set_random_state(1)(data)
    assert float(found["image"].max()) < 1.2
    assert found["label"] is data["label"]
    assert found["name"] == "a"
    assert Harmonised(("image", "other"), allow_missing_keys=True)(data).keys() == data.keys()
    with pytest.raises(KeyError, match="other"):
        Harmonised(("image", "other"))(data)


def test_it_has_the_habits_of_a_monai_transform() -> None:
    assert HarmoniseD is HarmoniseDict is Harmonised
    chain = mt.Compose([Harmonised("image")]).set_random_state(3)
    data = {"image": scan(9)}
    first = copy.deepcopy(chain)(data)["image"]
    assert torch.equal(pickle.loads(pickle.dumps(chain))(data)["image"], first)
    cached = CacheDataset([data], mt.Compose([Harmonised("image")]), progress=False)
    assert not torch.equal(cached[0]["image"], cached[0]["image"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"clip": (5, 5)}, r"clip must be a range .* got \(5, 5\)"),
        ({"air": 1.5}, "air must be a share"),
        ({"noise": -0.1}, "noise must be a share"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Harmonise(**arguments)
