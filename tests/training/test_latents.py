"""Latents of a pool: of each image and its mirror image, encoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.training.latents import Latents
from nvgen_aug.training.latents import encode_pool
from nvgen_aug.training.pool import Pool
from nvgen_aug.training.run import StageSettings
from tests.generators.tiny import randomized


@pytest.fixture
def pool() -> Pool:
    rng = np.random.default_rng(0)
    return Pool(
        images=rng.random((3, 16, 12, 8)).astype(np.float16),
        labels=np.ones((3, 16, 12, 8), np.uint8),
        modalities=np.zeros(3, np.int64),
    )


def network(seed: int = 1) -> Autoencoder:
    made = Autoencoder((4, 4, 8), 2)
    randomized(made, seed)
    return made


def encode(
    folder: Path, pool: Pool, seed: int = 1, *, trained: int = 7, resume: bool = False
) -> Latents:
    return encode_pool(
        network(seed),
        pool,
        StageSettings(folder, resume=resume),
        trained=trained,
    )


def test_each_image_and_its_mirror_image_are_encoded(tmp_path: Path, pool: Pool) -> None:
    latents = encode(tmp_path, pool)
    assert latents.means.shape == (3, 2, 4, 4, 3, 2)
    assert latents.means.dtype == np.float16
    for index in range(3):
        for mirrored, image in enumerate((pool.images[index], pool.images[index][::-1])):
            with torch.inference_mode():
                mean, _ = network().encode(torch.from_numpy(image.astype(np.float32))[None, None])
            found = latents.means[index, mirrored].astype(np.float32)
            np.testing.assert_allclose(found, mean[0].numpy(), rtol=2e-3, atol=2e-3)


def test_the_scale_factor_brings_the_means_to_unit_deviation(tmp_path: Path, pool: Pool) -> None:
    latents = encode(tmp_path, pool)
    assert (latents.means.astype(np.float64) * latents.scale_factor).std() == pytest.approx(
        1.0, rel=1e-3
    )


def test_resumed_they_are_read_and_not_encoded_again(tmp_path: Path, pool: Pool) -> None:
    first = encode(tmp_path, pool)
    again = encode(tmp_path, pool, seed=2, resume=True)
    np.testing.assert_array_equal(again.means, first.means)
    assert again.scale_factor == first.scale_factor


def test_without_resuming_they_are_encoded_again(tmp_path: Path, pool: Pool) -> None:
    first = encode(tmp_path, pool)
    assert not np.array_equal(encode(tmp_path, pool, seed=2).means, first.means)


def test_those_of_an_autoencoder_that_was_trained_further_are_not_read(
    tmp_path: Path, pool: Pool
) -> None:
    first = encode(tmp_path, pool)
    further = encode(tmp_path, pool, seed=2, trained=8, resume=True)
    assert not np.array_equal(further.means, first.means)


def test_those_of_a_pool_of_another_size_are_not_read(tmp_path: Path, pool: Pool) -> None:
    encode(tmp_path, Pool(pool.images[:2], pool.labels[:2], pool.modalities[:2]))
    assert len(encode(tmp_path, pool, resume=True).means) == 3


def test_only_the_finished_file_is_left_behind(tmp_path: Path, pool: Pool) -> None:
    encode(tmp_path, pool)
    assert [p.name for p in tmp_path.iterdir()] == ["latents-7.npy"]
