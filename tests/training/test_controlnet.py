"""The ControlNet begins as a copy of the flow and is trained with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.training.controlnet import begin_as_copy
from nvgen_aug.training.controlnet import train_control
from nvgen_aug.training.latents import Latents
from nvgen_aug.training.run import StageSettings
from tests.generators.tiny import TINY
from tests.generators.tiny import randomized
from tests.training.tiny_pool import tiny_pool


def test_it_begins_with_every_tensor_that_the_flow_has_in_its_shape() -> None:
    flow = randomized(build_flow(TINY.flow, 4), seed=1)
    control = randomized(build_control(TINY.flow, 4), seed=2)
    before = {k: v.clone() for k, v in control.state_dict().items()}
    begin_as_copy(control, flow)
    source, after = flow.state_dict(), control.state_dict()
    shared = {k for k, v in after.items() if k in source and source[k].shape == v.shape}
    # The trunk is shared, what reads times is narrower here, and the mask's encoder is its own.
    assert {"conv_in.conv.weight", "class_embedding.weight", "time_embed.0.weight"} <= shared
    assert all(torch.equal(after[k], source[k]) for k in shared)
    own = after.keys() - shared
    assert any(k.startswith("controlnet_cond_embedding") for k in own)
    assert any("time_emb_proj" in k for k in own)
    assert all(torch.equal(after[k], before[k]) for k in own)


def test_its_last_convolutions_do_not_begin_at_zero() -> None:
    control = build_control(TINY.flow, 4)
    last = [v for k, v in control.state_dict().items() if k.startswith("controlnet_down_blocks")]
    assert not any(bool(v.any()) for v in last)
    begin_as_copy(control, build_flow(TINY.flow, 4))
    weights = {k: v for k, v in control.state_dict().items() if k.endswith("conv.weight")}
    assert all(bool(v.any()) for v in weights.values())


def test_one_step_trains_both_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = randomized(build_flow(TINY.flow, 4), seed=1)
    control = build_control(TINY.flow, 4)
    means = np.random.default_rng(1).normal(0.0, 1.0, (3, 2, 4, 8, 8, 8)).astype(np.float16)
    begin_as_copy(control, flow)
    before = {
        f"{name}.{k}": v.clone()
        for name, network in (("flow", flow), ("control", control))
        for k, v in network.state_dict().items()
    }
    run = train_control(
        flow,
        control,
        tiny_pool(),
        Latents(means, 1.0),
        TINY,
        StageSettings(tmp_path, minutes=1e-6),
    )
    after = {
        f"{name}.{k}": v
        for name, network in (("flow", flow), ("control", control))
        for k, v in network.state_dict().items()
    }
    assert run.step == 1
    assert run.path.exists()
    assert after.keys() == before.keys()
    eye = [k for k in after if k.startswith("control.controlnet_cond_embedding")]
    assert eye
    assert all(torch.equal(after[k], before[k]) for k in eye)
    for key in ("flow.out.2.conv.bias", "control.controlnet_mid_block.conv.bias"):
        assert not torch.equal(after[key], before[key])
    assert all(torch.isfinite(v).all() for v in after.values())
