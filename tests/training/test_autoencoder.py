"""The autoencoder's training begins with a linear code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.training.autoencoder import start_as_linear_code
from nvgen_aug.training.autoencoder import train_autoencoder
from nvgen_aug.training.run import Run
from nvgen_aug.training.run import StageSettings
from tests.training.tiny_pool import tiny_pool


@pytest.fixture
def network() -> Autoencoder:
    torch.manual_seed(0)
    return build_autoencoder(TINY_BRAIN.autoencoder)


def blocks(images: np.ndarray) -> np.ndarray:
    """4 x 4 x 4 blocks as rows, `[N, 64]`."""
    n, x, y, z = images.shape
    cut = images.astype(np.float64).reshape(n, x // 4, 4, y // 4, 4, z // 4, 4)
    return cut.transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, 64)


def explained(values: np.ndarray, by: np.ndarray) -> float:
    """Share of the variance of `values` that a linear function of `by` explains."""
    inputs = np.column_stack([by, np.ones(len(by))])
    rest = values - inputs @ np.linalg.lstsq(inputs, values, rcond=None)[0]
    return 1.0 - float(rest.var(axis=0).sum() / values.var(axis=0).sum())


@torch.inference_mode()
def test_before_any_step_latents_tell_nearly_what_as_many_principal_components_tell(
    network: Autoencoder,
) -> None:
    pool = tiny_pool()
    values = blocks(pool.images)
    spectrum = np.linalg.eigvalsh(np.cov(values.T))
    best = spectrum[-4:].sum() / spectrum.sum()
    start_as_linear_code(network, pool)
    image = torch.from_numpy(pool.images.astype(np.float32))[:, None]
    mean, deviation = network.encode(image)
    rows = mean.permute(0, 2, 3, 4, 1).reshape(-1, 4).double().numpy()
    assert explained(values, rows) > 0.95 * best
    # Noise of the posterior does not drown the code from the start.
    assert float(deviation.mean()) < 0.2 * rows.std()


@torch.inference_mode()
def test_from_random_weights_latents_tell_less(network: Autoencoder) -> None:
    pool = tiny_pool()
    image = torch.from_numpy(pool.images.astype(np.float32))[:, None]
    values = blocks(pool.images)

    def told() -> float:
        mean, _ = network.encode(image)
        return explained(values, mean.permute(0, 2, 3, 4, 1).reshape(-1, 4).double().numpy())

    at_random = told()
    start_as_linear_code(network, pool)
    assert told() > at_random


@torch.inference_mode()
def test_before_any_step_the_decoder_hands_the_code_on_to_its_last_norm(
    network: Autoencoder,
) -> None:
    pool = tiny_pool()
    start_as_linear_code(network, pool)
    seen: list[torch.Tensor] = []
    network.decoder.blocks[-2].register_forward_hook(lambda *args: seen.append(args[2]))
    image = torch.from_numpy(pool.images[:1].astype(np.float32))[None]
    mean, _ = network.encode(image)
    network.decode(mean)
    features = seen[0][0].flatten(1).T.double().numpy()
    # One voxel each: a picture interpolated from the code, not yet the picture.
    assert explained(image.flatten().double().numpy()[:, None], features) > 0.7


def test_one_step_trains_and_is_kept(network: Autoencoder, tmp_path: Path) -> None:
    def train(seed_of_weights: int) -> Run:
        torch.manual_seed(seed_of_weights)
        return train_autoencoder(
            network,
            tiny_pool(),
            StageSettings(tmp_path, minutes=1e-6),
        )

    run = train(0)
    assert run.step == 1
    trained = {k: v.clone() for k, v in network.state_dict().items()}
    start_as_linear_code(network, tiny_pool())
    begun = network.state_dict()
    assert any(not torch.equal(v, begun[k]) for k, v in trained.items())
    assert all(torch.isfinite(v).all() for v in trained.values())
    assert train(1).step == 1  # its time is spent
    assert all(torch.equal(v, trained[k]) for k, v in network.state_dict().items())
