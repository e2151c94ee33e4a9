"""Guidance on tumours leads away from the same mask without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.masks.healthy import without_tumours
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.generators.released import NARROW
from tests.generators.released import install

AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])


def loaded(name: str) -> MaisiGenerator:
    with TemporaryDirectory() as folder:
        return MaisiGenerator(NARROW[name], weights=install(Path(folder), NARROW[name]))


@pytest.fixture(scope="module")
def rflow() -> MaisiGenerator:
    return loaded("rflow-ct")


def torso(tumour: int) -> Blob:
    label = np.zeros((32, 32, 32), np.uint8)
    label[6:26, 6:26, 4:28] = 200
    label[8:24, 8:24, 8:14] = 1
    label[10:16, 10:16, 9:13] = tumour
    return Blob(label, AFFINE)


def latent(generator: MaisiGenerator, mask: Blob, guidance: float, **fields: Any) -> Any:
    name = generator.card.name
    spec = VolumeSpec(name, seed=1, mask=mask.digest(), guidance=guidance, **fields)
    return generator.latent(spec, mask).tensor.astype(np.float32)


@pytest.mark.parametrize(("tumour", "organ"), [(26, 1), (24, 4), (27, 62), (116, 14), (117, 5)])
def test_a_tumour_becomes_its_organ(tumour: int, organ: int) -> None:
    label = np.full((4, 4, 4), organ, np.uint8)
    label[1:3, 1:3, 1:3] = tumour
    before = label.copy()
    assert (without_tumours(label) == organ).all()
    np.testing.assert_array_equal(label, before)


def test_a_lung_tumour_becomes_the_lobe_of_most_of_its_ring() -> None:
    label = np.full((9, 9, 9), 28, np.uint8)
    label[:3] = 29
    label[3:6, 3:6, 3:6] = 23
    assert (without_tumours(label)[3:6, 3:6, 3:6] == 28).all()


def test_a_bone_lesion_and_a_tumour_without_a_lobe_stay() -> None:
    label = np.full((5, 5, 5), 200, np.uint8)
    label[1:3, 1:3, 1:3] = 128
    label[4, 4, 4] = 23
    np.testing.assert_array_equal(without_tumours(label), label)


@pytest.mark.parametrize("numerics", ["exact", "reference"])
def test_guidance_hears_the_tumour(rflow: MaisiGenerator, numerics: str) -> None:
    with_tumour, healthy = torso(26), torso(1)
    fields = {"numerics": numerics}
    plain = latent(rflow, with_tumour, 0.0, **fields)
    guided = latent(rflow, with_tumour, 1.0, **fields)
    # A scale of 1 is what was asked, whatever it is led away from.
    assert np.abs(guided - plain).max() < 0.05
    led = latent(rflow, with_tumour, 3.0, **fields)
    unled = latent(rflow, healthy, 3.0, **fields)
    assert np.abs(led - plain).max() > 0.1
    assert np.abs(led - unled).max() > 0.1


def test_what_it_is_led_away_from_is_the_healthy_mask(
    rflow: MaisiGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = latent(rflow, torso(26), 3.0)
    monkeypatch.setattr(
        "nvgen_aug.generators.maisi.sampler.without_tumours", lambda label: label.copy()
    )
    assert np.abs(led - latent(rflow, torso(26), 3.0)).max() > 0.01


def test_ddpm_ct_is_guided_under_a_mask_alone() -> None:
    generator = loaded("ddpm-ct")
    mask = torso(26)
    plain = latent(generator, mask, 0.0, body_region=("abdomen", "abdomen"))
    led = latent(generator, mask, 3.0, body_region=("abdomen", "abdomen"))
    assert np.abs(led - plain).max() > 0.01
    spec = VolumeSpec("ddpm-ct", seed=1, guidance=3.0, image_only=True)
    with pytest.raises(SpecError, match="cannot be guided without a mask"):
        generator.card.resolve(spec)
    generator.card.resolve(replace(spec, guidance=0.0))
