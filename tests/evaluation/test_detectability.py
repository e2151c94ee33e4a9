"""Six numbers of an image find what gives its maker away, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvgen_aug.data.traces import FEATURES
from nvgen_aug.data.traces import fingerprint
from nvgen_aug.errors import DataError
from nvgen_aug.evaluation.detectability import detectability
from nvgen_aug.evaluation.detectability import detectability_of

pytest.importorskip("sklearn")


def scans(number: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(100, 10, (1, 12, 12, 12)).astype(np.float32) for _ in range(number)]


def clipped(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.where(image < 92, 92, image) for image in images]


def test_images_of_one_kind_are_not_told_apart() -> None:
    found = detectability(scans(30, 1), scans(30, 2))
    assert found.low < 0.5 < found.high or found.auc < 0.5
    assert found.verdict == "not told apart"


def test_a_clipping_range_is_found_and_named() -> None:
    found = detectability(scans(20, 1), clipped(scans(20, 2)))
    assert found.auc > 0.95
    assert found.verdict == "a strong short cut"
    assert found.strongest in ("commonest value", "lowest value")
    assert found.low <= found.auc <= found.high


def test_a_weak_signal_lies_inside_its_interval() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(0, 1, (60, 6)).tolist()
    synthetic = rng.normal(0.5, 1, (60, 6)).tolist()
    found = detectability_of(real, synthetic)
    assert 0.6 < found.low < found.auc < found.high < 1


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="at least 10 images of each kind, got 3 real and 20"):
        detectability(scans(3, 1), scans(20, 2))


def test_a_fingerprint_tells_what_it_says() -> None:
    image = torch.zeros((1, 8, 8, 8))
    image[:, :2] = 1.0
    image[:, 2:4] = torch.linspace(0.1, 0.9, 128).reshape(1, 2, 8, 8)
    found = dict(zip(FEATURES, fingerprint(image), strict=True))
    assert found["commonest value"] == found["lowest value"] == 0.5
    assert found["highest value"] == 0.25
    assert found["distinct values"] == 130 / 512
    assert found["noise in the dark"] == 0.0
    assert found["middle of the range"] <= 0.11


def test_noise_in_the_dark_does_not_depend_on_the_scale() -> None:
    (image,) = scans(1, 3)
    one, other = (fingerprint(image * scale)[4] for scale in (1.0, 1000.0))
    assert one == pytest.approx(other, rel=1e-3)
    assert one > 0.05


def test_an_empty_or_flat_image_has_a_fingerprint() -> None:
    assert len(fingerprint(torch.zeros((1, 0, 4, 4)))) == len(FEATURES)
    assert fingerprint(torch.ones((1, 4, 4, 2)))[0] == 1.0
