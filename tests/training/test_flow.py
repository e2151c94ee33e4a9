"""The flow learns velocities on straight ways between noise and stored latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.training.flow import BATCH
from nvgen_aug.training.flow import LESION_WEIGHT
from nvgen_aug.training.flow import Batch
from nvgen_aug.training.flow import draw_batch
from nvgen_aug.training.flow import train_flow
from nvgen_aug.training.latents import Latents
from nvgen_aug.training.run import StageSettings
from tests.generators.tiny import TINY
from tests.training.tiny_pool import tiny_pool


@pytest.fixture
def latents() -> Latents:
    rng = np.random.default_rng(1)
    means = rng.normal(0.0, 2.0, (3, 2, 4, 8, 8, 8)).astype(np.float16)
    return Latents(means, scale_factor=0.5)


def draw(latents: Latents, seed: int = 0) -> Batch:
    return draw_batch(tiny_pool(), latents, TINY, np.random.default_rng(seed), "cpu")


def test_a_batch_is_the_same_for_the_same_generator(latents: Latents) -> None:
    one, again, other = draw(latents), draw(latents), draw(latents, seed=1)
    assert torch.equal(one.point, again.point)
    assert not torch.equal(one.point, other.point)


def test_following_the_velocity_to_the_end_leads_to_a_scaled_latent_and_its_label(
    latents: Latents,
) -> None:
    batch, pool = draw(latents), tiny_pool()
    assert batch.point.shape == batch.velocity.shape == (BATCH, 4, 8, 8, 8)
    data = batch.data.numpy()
    scaled = latents.means.astype(np.float32) * 0.5
    for place, (found, label) in enumerate(zip(data, batch.label.numpy(), strict=True)):
        distances = np.abs(scaled - found).max(axis=(2, 3, 4, 5))
        index, mirrored = np.unravel_index(distances.argmin(), distances.shape)
        assert distances[index, mirrored] < 1e-4
        assert (index, mirrored) == (batch.indices[place], batch.mirrored[place])
        expected = pool.labels[index][::-1] if mirrored else pool.labels[index]
        np.testing.assert_array_equal(label, expected)


def test_the_other_end_of_the_way_is_standard_normal_noise(latents: Latents) -> None:
    batch = draw(latents)
    share = (batch.time / 1000)[:, None, None, None, None]
    noise = batch.point - (1 - share) * batch.velocity
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)


def test_times_are_spread_over_the_whole_way(latents: Latents) -> None:
    times = torch.cat([draw(latents, seed).time for seed in range(4)])
    assert float(times.min()) >= 0
    assert float(times.max()) <= 1000
    assert float(times.max() - times.min()) > 700


def test_early_batches_have_more_times_at_the_noisy_end(latents: Latents) -> None:
    def median(early: bool) -> float:
        rng = np.random.default_rng(0)
        batches = [
            draw_batch(tiny_pool(), latents, TINY, rng, "cpu", size=4, early=early)
            for _ in range(8)
        ]
        return float(torch.cat([batch.time for batch in batches]).median())

    assert median(early=True) > 1.3 * median(early=False)


def test_the_modality_is_hidden_now_and_then(latents: Latents) -> None:
    ids = torch.cat([draw(latents, seed).modality for seed in range(12)]).tolist()
    assert set(ids) <= {0, *TINY.modalities.values()}
    assert 0 < ids.count(0) < 0.3 * len(ids)


def test_spacing_is_told_as_the_family_reads_it(latents: Latents) -> None:
    assert draw(latents).spacing.tolist() == [[600.0, 600.0, 600.0]] * BATCH


def test_errors_near_lesions_weigh_more(latents: Latents) -> None:
    batch = draw(latents)
    assert set(batch.weight.unique().tolist()) <= {1.0, LESION_WEIGHT}
    lesion = batch.label.reshape(BATCH, 8, 4, 8, 4, 8, 4).eq(4).any(2).any(3).any(4)
    assert torch.equal(batch.weight[:, 0] == LESION_WEIGHT, lesion)


def test_the_loss_of_the_velocity_itself_is_nothing(latents: Latents) -> None:
    batch = draw(latents)
    assert float(batch.loss(batch.velocity)) == 0.0
    assert float(batch.loss(batch.velocity + 2.0)) == pytest.approx(4.0)


def test_one_step_trains_the_network_and_leaves_the_spacing_input_fixed(
    latents: Latents, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = build_flow(TINY.flow, 4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    run = train_flow(
        network,
        tiny_pool(),
        latents,
        TINY,
        StageSettings(tmp_path, minutes=1e-6),
    )
    after = network.state_dict()
    assert run.step == 1
    assert run.path.exists()
    assert not torch.equal(after["out.2.conv.bias"], before["out.2.conv.bias"])
    assert all(torch.isfinite(v).all() for v in after.values())
    fixed = after["spacing_layer.0.weight"] / before["spacing_layer.0.weight"]
    torch.testing.assert_close(fixed, torch.full_like(fixed, 0.01))
