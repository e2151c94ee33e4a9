"""Latents to voxels: whole, in part, into the caller's memory, and by whose statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgen_aug.crop import Crop
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.decoding import Decoding
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.placement import place
from nvgen_aug.generators.maisi.statistics_mode import StatisticsMode
from nvgen_aug.generators.maisi.statistics_mode import pooled
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Latent
from tests.generators.tiny import TINY
from tests.generators.tiny import randomized


def latent_of(*size: int, seed: int = 0) -> Latent:
    rng = np.random.default_rng(seed)
    base = PhantomGenerator().latent(VolumeSpec("phantom", seed=seed, size=(8, 8, 8)))
    label = rng.integers(0, 3, (1, *(4 * n for n in size))).astype(np.uint8)
    ramp = np.linspace(-1, 1, size[0])[:, None, None]
    tensor = (rng.normal(size=(4, *size)) + 2 * ramp).astype(np.float16)
    return replace(base, tensor=tensor, label=label)


def decoding(mode: str = "full") -> Decoding:
    autoencoder = build_autoencoder(TINY.autoencoder)
    randomized(autoencoder, seed=5)
    place(autoencoder, torch.device("cpu"))
    parsed = StatisticsMode.parse(mode)
    return Decoding(autoencoder, TINY, parsed)


CROPS = [Crop((5, 3, 7), (11, 13, 6)), Crop((0, 0, 0), (9, 1, 24)), Crop((60, 15, 0), (4, 9, 5))]


def with_statistics(decoder: Decoding, latent: Latent) -> tuple[Latent, np.ndarray]:
    volume, statistics = decoder.decode(latent)
    assert statistics is not None
    return latent.with_statistics(statistics), volume.image


@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_that_decodes_alone_is_that_part_of_the_whole(crop: Crop) -> None:
    decoder = decoding()
    latent, image = with_statistics(decoder, latent_of(16, 6, 6))
    part, _ = decoder.decode(latent, crop)
    whole, _ = decoder.decode(latent)
    np.testing.assert_array_equal(whole.image, image)
    expected = whole.cropped(crop)
    difference = np.abs(part.image.astype(int) - expected.image)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3
    np.testing.assert_array_equal(part.label, expected.label)
    np.testing.assert_array_equal(part.affine, expected.affine)
    assert part.provenance == expected.provenance
    assert part.crop == crop


def test_a_crop_without_statistics_is_cut_from_the_whole() -> None:
    decoder, latent = decoding(), latent_of(8, 4, 4)
    crop = Crop((5, 3, 7), (11, 9, 6))
    part, _ = decoder.decode(latent, crop)
    np.testing.assert_array_equal(part.image, decoder.decode(latent)[0].cropped(crop).image)
    assert decoder.crop_share(latent, crop) == 1.0


def test_a_small_crop_of_a_large_volume_is_a_small_share_of_its_work() -> None:
    decoder = decoding()
    latent = replace(latent_of(1, 1, 1), tensor=np.zeros((4, 64, 64, 64), np.float16))
    latent = latent.with_statistics(np.zeros((13, TINY.autoencoder.groups, 2), np.float32))
    assert decoder.crop_share(latent, Crop((96, 96, 96), (64, 64, 64))) < 0.1
    assert decoder.crop_share(latent, Crop((0, 0, 0), (256, 256, 256))) == 1.0


def test_a_crop_outside_the_volume_is_refused() -> None:
    with pytest.raises(SpecError, match="leaves the volume"):
        decoding().decode(latent_of(4, 4, 4), Crop((8, 0, 0), (9, 4, 4)))


def test_voxels_are_written_into_the_callers_array() -> None:
    decoder = decoding()
    latent, image = with_statistics(decoder, latent_of(8, 4, 4))
    ring = np.full((2, 32, 16, 16), 77, np.int16)
    volume, _ = decoder.decode(latent, out=ring[1:])
    assert np.shares_memory(volume.image, ring)
    np.testing.assert_array_equal(ring[1:], image)
    assert (ring[0] == 77).all()


@pytest.mark.parametrize(
    ("out", "text"),
    [
        (np.zeros((1, 32, 16, 15), np.int16), r"int16 \[1, 32, 16, 16\], got int16 .*15\]"),
        (np.zeros((1, 32, 16, 16), np.float32), "got float32"),
        (np.zeros((1, 32, 16, 32), np.int16)[..., ::2], "C-contiguous"),
    ],
)
def test_an_array_that_voxels_do_not_fit_into_is_refused(out: np.ndarray, text: str) -> None:
    with pytest.raises(GenerationError, match=text):
        decoding().decode(latent_of(8, 4, 4), out=out)


def test_values_that_are_not_finite_are_refused_with_the_seed() -> None:
    latent = latent_of(4, 4, 4, seed=3)
    latent.tensor[0, 1, 1, 1] = np.nan
    with pytest.raises(GenerationError, match="of the image for seed 3 are not finite"):
        decoding().decode(latent)


def test_tiles_with_their_own_statistics_give_other_voxels_and_none_to_store() -> None:
    latent = latent_of(16, 4, 4)
    full, _ = decoding().decode(latent)
    tiled, statistics = decoding("tile:8,4,4@0.5").decode(latent)
    assert statistics is None
    assert not np.array_equal(tiled.image, full.image)
    small = latent_of(8, 4, 4)  # no larger than a tile
    one, _ = decoding("tile:8,4,4@0.5").decode(small)
    whole, _ = decoding().decode(small)
    assert np.abs(one.image.astype(int) - whole.image).max() <= 1


def test_a_crop_of_tiles_is_cut_from_the_blended_whole() -> None:
    decoder, latent = decoding("tile:8,4,4@0.5"), latent_of(16, 4, 4)
    crop = Crop((13, 2, 1), (20, 9, 6))
    part, _ = decoder.decode(latent, crop)
    np.testing.assert_array_equal(part.image, decoder.decode(latent)[0].cropped(crop).image)


def test_frozen_statistics_are_those_of_a_population(tmp_path: Path) -> None:
    latents = [latent_of(8, 4, 4, seed=seed) for seed in range(3)]
    rows = [decoding().decode(latent)[1] for latent in latents]
    population = pooled([row for row in rows if row is not None])
    np.save(tmp_path / "population.npy", population)
    frozen = decoding(f"frozen:{tmp_path / 'population.npy'}")
    volume, statistics = frozen.decode(latents[0])
    assert statistics is None  # they are not this volume's, and must not be stored as such
    given = latents[0].with_statistics(population)
    np.testing.assert_array_equal(volume.image, decoding().decode(given)[0].image)


def test_a_pooled_variance_has_that_of_the_means() -> None:
    rows = [np.array([[[mean, 1.0]]], np.float32) for mean in (-2.0, 2.0)]
    np.testing.assert_allclose(pooled(rows), [[[0.0, 5.0]]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("half", "must be `full`"),
        ("tile:8,4", "is written like"),
        ("tile:8,4,4@1.5", "overlaps in"),
        ("frozen:", "must be `full`"),
        ("frozen:/nowhere.npy", "cannot be read"),
    ],
)
def test_a_mode_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        StatisticsMode.parse(text)


def test_modes_have_their_own_words_in_keys(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((13, 2, 2), np.float32))
    np.save(tmp_path / "two.npy", np.zeros((13, 2, 2), np.float32))
    texts = ["full", "tile", "tile:64,64,48@0.4"]
    texts += [f"frozen:{tmp_path / name}.npy" for name in ("one", "two")]
    assert len({str(StatisticsMode.parse(text)) for text in texts}) == 5
