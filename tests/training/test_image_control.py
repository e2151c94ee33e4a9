"""The image ControlNet begins as the mask's, and learns beside weights that stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from nvgen_aug.generators.maisi.conditioning import image_condition
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.generators.maisi.networks import build_image_control
from nvgen_aug.training.image_control import begin_as_mask_control
from nvgen_aug.training.image_control import train_image_control
from nvgen_aug.training.image_control import train_image_encoder
from nvgen_aug.training.matched import Matched
from nvgen_aug.training.matched import encode_matched
from nvgen_aug.training.run import StageSettings
from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIns
from tests.generators.tiny import TINY
from tests.generators.tiny import randomized
from tests.training.tiny_pool import COARSE
from tests.training.tiny_pool import tiny_pool


def matched() -> Matched:
    means = np.random.default_rng(1).normal(0.0, 1.0, (3, 3, 4, 8, 8, 8)).astype(np.float16)
    return Matched(means, tiny_pool().labels)


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def test_each_voxel_is_told_the_contrast_of_the_whole() -> None:
    latent = torch.randn(2, 4, 8, 8, 8)
    told = image_condition(latent)
    assert told.shape == (2, 12, 8, 8, 8)
    torch.testing.assert_close(told[:, :4], latent)
    torch.testing.assert_close(told[1, 4:8, 3, 2, 1], latent[1].mean(dim=(1, 2, 3)))
    torch.testing.assert_close(told[1, 8:, 0, 0, 7], latent[1].std(dim=(1, 2, 3)))


def test_it_begins_with_every_tensor_of_the_masks_but_those_that_read_the_condition() -> None:
    control = randomized(build_control(TINY.flow, 4), seed=1)
    image_control = randomized(build_image_control(TINY.flow, 4), seed=2)
    before = copied(image_control)
    begin_as_mask_control(image_control, control)
    after, source = image_control.state_dict(), control.state_dict()
    own = {k for k in after if k.startswith("controlnet_cond_embedding.")}
    assert own
    assert all(torch.equal(after[k], before[k]) for k in own)
    assert all(torch.equal(after[k], source[k]) for k in after.keys() - own)


def test_matched_brains_are_encoded_once(tmp_path: Path) -> None:
    network = randomized(build_autoencoder(TINY.autoencoder), seed=0)
    supply = StandIns("train", grid=COARSE)
    settings = StageSettings(tmp_path)
    made = encode_matched(network, supply, settings, trained="a", subjects=2)
    assert made.means.shape == (2, len(MODALITIES), 4, 8, 8, 8)
    scan = supply.matched(1)[2]
    with torch.inference_mode():
        mean, _ = network.encode(torch.from_numpy(scan.image)[None, None])
    np.testing.assert_allclose(made.means[1, 2], mean[0].numpy(), atol=5e-3)
    np.testing.assert_array_equal(made.labels[1], scan.label)
    other = randomized(build_autoencoder(TINY.autoencoder), seed=7)
    again = encode_matched(other, supply, settings, trained="a", subjects=2)
    np.testing.assert_array_equal(again.means, made.means)
    anew = encode_matched(other, supply, settings, trained="b", subjects=2)
    assert not np.array_equal(anew.means, made.means)


def test_what_reads_an_image_learns_what_the_masks_encoder_says(tmp_path: Path) -> None:
    eye = randomized(build_control(TINY.flow, 4), seed=1).controlnet_cond_embedding
    reader = build_image_control(TINY.flow, 4).controlnet_cond_embedding
    assert isinstance(eye, nn.Module)
    assert isinstance(reader, nn.Module)
    before = copied(eye)
    losses: list[float] = []
    run = train_image_encoder(
        reader,
        eye,
        matched(),
        TINY,
        1.0,
        StageSettings(tmp_path, minutes=0.02, report=lambda now: losses.append(now.loss)),
    )
    assert run.step > 1
    assert run.path.exists()
    assert any(bool(v.any()) for k, v in reader.state_dict().items() if k.endswith("weight"))
    assert all(torch.equal(v, before[k]) for k, v in eye.state_dict().items())


def test_a_step_trains_the_image_controlnet_and_leaves_the_flow(tmp_path: Path) -> None:
    flow = randomized(build_flow(TINY.flow, 4), seed=1)
    image_control = randomized(build_image_control(TINY.flow, 4), seed=2)
    before, trained = copied(flow), copied(image_control)
    run = train_image_control(
        flow, image_control, matched(), TINY, 1.0, StageSettings(tmp_path, minutes=1e-6)
    )
    assert run.step == 1
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())
    after = image_control.state_dict()
    for key in ("controlnet_mid_block.conv.bias", "conv_in.conv.weight"):
        assert not torch.equal(after[key], trained[key])
    assert all(bool(torch.isfinite(v).all()) for v in after.values())
