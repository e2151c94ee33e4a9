"""The flow networks are those of the family."""

from __future__ import annotations

import pytest
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import nn

from nvgen_aug.generators.maisi.conditioning import mask_bits
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.generators.maisi.shapes import FlowShape
from tests.generators.tiny import TINY
from tests.generators.tiny import randomized

# The rectified-flow members of NV-Generate.
FULL = FlowShape(
    channels=(64, 128, 256, 512),
    attention=(False, False, True, True),
    head_channels=(0, 0, 32, 32),
    norm_groups=32,
    condition_channels=(8, 32, 64),
)


@pytest.fixture
def control() -> nn.Module:
    return randomized(build_control(TINY.flow, 4), seed=1)


@pytest.fixture
def condition() -> torch.Tensor:
    label = torch.arange(32**3).remainder(5).to(torch.uint8).reshape(1, 32, 32, 32)
    return mask_bits(label)


def estimate(control: nn.Module, condition: torch.Tensor) -> list[torch.Tensor]:
    noise = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    down, middle = control(
        x=noise,
        timesteps=torch.tensor([500.0]),
        controlnet_cond=condition,
        class_labels=torch.tensor([29]),
    )
    return [*down, middle]


@pytest.mark.parametrize(
    ("build", "tensors", "parameters"),
    [(build_flow, 435, 180_500_868), (build_control, 231, 72_037_072)],
)
def test_of_full_width_they_have_the_published_numbers_of_tensors_and_parameters(
    build: type, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        state = build(FULL, 4).state_dict()
    assert len(state) == tensors
    assert sum(v.numel() for v in state.values()) == parameters


def test_the_controlnet_has_the_key_without_conv_that_the_checkpoints_have() -> None:
    with torch.device("meta"):
        keys = build_control(FULL, 4).state_dict().keys()
    assert "controlnet_down_blocks.0.weight" in keys
    assert "controlnet_down_blocks.1.conv.weight" in keys
    assert "controlnet_mid_block.conv.weight" in keys


def reference() -> nn.Module:
    network: nn.Module = DiffusionModelUNetMaisi(
        spatial_dims=3,
        in_channels=4,
        out_channels=4,
        num_channels=TINY.flow.channels,
        attention_levels=TINY.flow.attention,
        num_head_channels=TINY.flow.head_channels,
        num_res_blocks=2,
        norm_num_groups=TINY.flow.norm_groups,
        num_class_embeds=128,
        resblock_updown=True,
        include_fc=True,
        include_spacing_input=True,
    )
    return network


def velocity(flow: nn.Module, residuals: list[torch.Tensor] | None) -> torch.Tensor:
    found: torch.Tensor = flow(
        x=torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0)),
        timesteps=torch.tensor([500.0]),
        class_labels=torch.tensor([29]),
        spacing_tensor=torch.tensor([[100.0, 100.0, 100.0]]),
        down_block_additional_residuals=residuals and [r.clone() for r in residuals[:-1]],
        mid_block_additional_residual=residuals and residuals[-1].clone(),
    )
    return found


@torch.inference_mode()
@pytest.mark.parametrize("is_steered", [False, True])
def test_the_flow_estimates_the_velocity_that_monais_network_estimates(
    control: nn.Module, condition: torch.Tensor, is_steered: bool
) -> None:
    flow = randomized(build_flow(TINY.flow, 4), seed=3)
    other = reference()
    other.load_state_dict(flow.state_dict())
    residuals = estimate(control, condition) if is_steered else None
    found = velocity(flow, residuals)
    torch.testing.assert_close(found, velocity(other.eval(), residuals), rtol=1e-5, atol=1e-5)
    assert is_steered != torch.equal(found, velocity(flow, None))


def test_flow_and_controlnet_can_be_trained_together(
    control: nn.Module, condition: torch.Tensor
) -> None:
    flow = randomized(build_flow(TINY.flow, 4), seed=3)
    velocity(flow, estimate(control, condition)).square().sum().backward()
    for network, key in (
        (flow, "conv_in.conv.weight"),
        (flow, "middle_block.resnet_1.conv1.conv.weight"),
        (control, "controlnet_cond_embedding.conv_in.conv.weight"),
        (control, "controlnet_mid_block.conv.weight"),
    ):
        gradient = network.get_parameter(key).grad
        assert gradient is not None
        assert gradient.abs().max() > 0
