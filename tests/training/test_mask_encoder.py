"""The ControlNet's mask encoder learns to foretell latents, and then speaks for every mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nvgen_aug.generators.maisi.conditioning import mask_bits
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.training.latents import Latents
from nvgen_aug.training.mask_encoder import Foreteller
from nvgen_aug.training.mask_encoder import encode_masks
from nvgen_aug.training.mask_encoder import train_mask_encoder
from nvgen_aug.training.run import Run
from nvgen_aug.training.run import StageSettings
from nvgen_aug.training.tissue_code import start_as_tissue_code
from tests.generators.tiny import TINY
from tests.training.tiny_pool import tiny_pool

# Masks and latents of the small variant, under the mask encoder of the one that ships.
VARIANT = replace(TINY, flow=TINY_BRAIN.flow)


@pytest.fixture
def encoder() -> nn.Module:
    torch.manual_seed(0)
    made = build_control(VARIANT.flow, 4).controlnet_cond_embedding
    assert isinstance(made, nn.Module)
    return made


def train(encoder: nn.Module, folder: Path, minutes: float = 1e-6) -> Run:
    means = np.random.default_rng(1).normal(0.0, 1.0, (3, 2, 4, 8, 8, 8)).astype(np.float16)
    return train_mask_encoder(
        encoder,
        tiny_pool(),
        Latents(means, 1.0),
        VARIANT,
        StageSettings(folder, minutes=minutes),
    )


def test_each_modality_has_a_forecast_of_its_own(encoder: nn.Module) -> None:
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    network = Foreteller(encoder, VARIANT.flow.channels[0], 4)
    bits = mask_bits(torch.from_numpy(tiny_pool().labels[:1])).repeat(3, 1, 1, 1, 1)
    foretold = network(bits, torch.tensor([0, 1, 0]))
    assert foretold.shape == (3, 4, 8, 8, 8)
    assert torch.equal(foretold[0], foretold[2])
    assert not torch.equal(foretold[0], foretold[1])


def test_one_step_trains_the_encoder_itself(encoder: nn.Module, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    run = train(encoder, tmp_path)
    after = encoder.state_dict()
    assert run.step == 1
    assert run.path.exists()
    assert after.keys() == before.keys()
    assert not any(torch.equal(after[k], before[k]) for k in after if k.endswith("weight"))


def test_a_spent_run_gives_back_what_it_learnt(encoder: nn.Module, tmp_path: Path) -> None:
    train(encoder, tmp_path).averaged()
    learnt = {k: v.clone() for k, v in encoder.state_dict().items()}
    for parameter in encoder.parameters():
        nn.init.ones_(parameter)
    train(encoder, tmp_path).averaged()
    assert all(torch.equal(v, learnt[k]) for k, v in encoder.state_dict().items())


def test_every_mask_and_its_mirror_image_are_encoded(encoder: nn.Module, tmp_path: Path) -> None:
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    pool = tiny_pool()
    said = encode_masks(encoder, pool, VARIANT, StageSettings(tmp_path))
    assert said.shape == (3, 2, VARIANT.flow.channels[0], 8, 8, 8)
    assert said.dtype == np.float16
    mirrored = torch.from_numpy(pool.labels[2][::-1].copy())[None]
    with torch.inference_mode():
        expected = encoder(mask_bits(mirrored))[0].numpy()
    np.testing.assert_allclose(said[2, 1].astype(np.float32), expected, rtol=5e-3, atol=5e-3)


def test_it_begins_with_the_share_of_each_tissue_in_a_latent_voxel(encoder: nn.Module) -> None:
    start_as_tissue_code(encoder)
    label = torch.from_numpy(tiny_pool().labels[:2])
    with torch.inference_mode():
        said = encoder(mask_bits(label)).movedim(1, -1).reshape(-1, 32).double()
    design = torch.cat([said, torch.ones(len(said), 1)], dim=1)
    for tissue in (1, 2, 3):  # lesions are a few voxels on this coarse grid
        share = (label == tissue).double().reshape(2, 8, 4, 8, 4, 8, 4).mean((2, 4, 6)).reshape(-1)
        read = design @ torch.linalg.lstsq(design, share).solution
        assert float((read - share).square().mean()) < 0.1 * float(share.var())


def test_it_begins_with_the_side_on_which_a_tissue_lies(encoder: nn.Module) -> None:
    start_as_tissue_code(encoder)
    left, right = torch.zeros(2, 1, 16, 16, 16, dtype=torch.uint8)
    left[:, 4:6], right[:, 6:8] = 3, 3  # white matter in either half of the second latent voxel
    with torch.inference_mode():
        one, other = (encoder(mask_bits(label))[0, :, 1, 2, 2] for label in (left, right))
    # Channel 9 is the difference along x of the third tissue.
    assert float(one[9]) < float(other[9]) - 0.5
    assert float(one[8]) == pytest.approx(float(other[8]), abs=0.3)
