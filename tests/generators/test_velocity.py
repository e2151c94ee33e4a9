"""What does not change along the way is worked out once, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nvgen_aug.generators.maisi.conditioning import mask_bits
from nvgen_aug.generators.maisi.flow import schedule
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.generators.maisi.velocity import ControlStep
from nvgen_aug.generators.maisi.velocity import FlowStep
from nvgen_aug.generators.maisi.velocity import Guidance
from nvgen_aug.generators.maisi.velocity import Velocity
from tests.generators.tiny import TINY
from tests.generators.tiny import randomized

MODALITY, SPACING = 29, (1.0, 1.5, 2.0)
PLAN = schedule(4, 8**3)


@pytest.fixture(scope="module")
def control() -> nn.Module:
    return randomized(build_control(TINY.flow, 4), seed=1)


@pytest.fixture(scope="module")
def flow() -> nn.Module:
    return randomized(build_flow(TINY.flow, 4), seed=3)


@pytest.fixture
def state() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def condition() -> torch.Tensor:
    return mask_bits(torch.arange(32**3).remainder(5).to(torch.uint8).reshape(1, 32, 32, 32))


def velocity(control: nn.Module, flow: nn.Module, **changes: Any) -> Velocity:
    told = {
        "condition": condition(),
        "modality": MODALITY,
        "spacing": SPACING,
        "guidance": Guidance(),
        **changes,
    }
    return Velocity(ControlStep(control), FlowStep(flow), PLAN, **told)


def as_monai_does(
    control: nn.Module, flow: nn.Module, x: torch.Tensor, time: float, modality: int = MODALITY
) -> torch.Tensor:
    """Everything from the beginning, through the networks' own `forward`."""
    times, classes = torch.tensor([time]), torch.tensor([modality])
    down, middle = control(x=x, timesteps=times, controlnet_cond=condition(), class_labels=classes)
    found: torch.Tensor = flow(
        x=x,
        timesteps=times,
        class_labels=classes,
        spacing_tensor=100 * torch.tensor([SPACING]),
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    )
    return found


@torch.inference_mode()
@pytest.mark.parametrize("k", range(4))
def test_it_is_what_the_networks_estimate_from_the_beginning(
    control: nn.Module, flow: nn.Module, state: torch.Tensor, k: int
) -> None:
    expected = as_monai_does(control, flow, state, PLAN.times[k])
    found = velocity(control, flow)(state, k)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_velocity_without_residuals_is_that_of_the_unet_alone(
    flow: nn.Module, state: torch.Tensor
) -> None:
    step, spacings = FlowStep(flow), 100 * torch.tensor([SPACING])
    times, classes = torch.tensor([500.0]), torch.tensor([MODALITY])
    expected = flow(x=state, timesteps=times, class_labels=classes, spacing_tensor=spacings)
    found = step(state, step.embed(times, classes, spacings))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_mask_is_encoded_once_and_times_are_embedded_in_one_batch(
    control: nn.Module, flow: nn.Module, state: torch.Tensor
) -> None:
    batches: list[tuple[str, int]] = []
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, __, name=name: batches.append((name, len(inputs[0])))  # type: ignore[misc]
        )
        for name, module in (
            ("mask", control.controlnet_cond_embedding),
            ("control's time", control.time_embed),
            ("flow's time", flow.time_embed),
            ("spacing", flow.spacing_layer),
        )
    ]
    try:
        estimate = velocity(control, flow)
        for k in range(4):
            state = estimate(state, k)
    finally:
        for hook in hooks:
            hook.remove()
    assert sorted(batches) == [
        ("control's time", 4),
        ("flow's time", 4),
        ("mask", 1),
        ("spacing", 4),
    ]


@torch.inference_mode()
def test_guidance_leads_away_from_the_branch_without_a_modality(
    control: nn.Module, flow: nn.Module, state: torch.Tensor
) -> None:
    asked = as_monai_does(control, flow, state, PLAN.times[1])
    unknown = as_monai_does(control, flow, state, PLAN.times[1], modality=0)
    found = velocity(control, flow, guidance=Guidance(4.0))(state, 1)
    torch.testing.assert_close(found, unknown + 4 * (asked - unknown), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_outside_its_interval_guidance_is_not_evaluated(
    control: nn.Module, flow: nn.Module, state: torch.Tensor
) -> None:
    sizes: list[int] = []
    step = FlowStep(flow)

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        found: torch.Tensor = step(x, *rest)
        return found

    shares = [t / 1000 for t in PLAN.times]
    only_second = Guidance(4.0, (shares[1], shares[1]))
    estimate = velocity(control, flow, guidance=only_second, run_flow=run)
    plain = velocity(control, flow)
    for k in range(4):
        assert torch.allclose(estimate(state, k), plain(state, k), atol=1e-5) == (k != 1)
    assert sizes == [1, 2, 1, 1]
