"""Velocity: what the networks estimate along the way, with all that stays the same worked out once.

Of what the networks are told, the mask never changes within a volume, and the time, the modality
and the spacing are known for every evaluation before the first. So the mask's encoder, which works
at the resolution of the image and would cost more than the rest of the ControlNet, runs once, and
the embeddings of all evaluations are made in one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import final

import torch
from torch import nn

from .conditioning import modality_tensor
from .conditioning import spacing_tensor
from .ddpm import Chain
from .flow import TRAIN_TIMESTEPS
from .flow import Schedule
from .vocabulary import UNKNOWN_MODALITY

Run = Callable[..., Any]


@final
class ControlStep(nn.Module):
    """A ControlNet from the point where mask, time and modality are encoded already.

    Args:
        network: MONAI's `ControlNetMaisi`; its weights are used, not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: torch.Tensor, embedding: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Residuals for the UNet, the middle block's last.

        Args:
            x: `[B, C, x, y, z]`.
            embedding: `[B, E]`, as `embed` gives it.
            features: `[B, F, x, y, z]`, as `read` gives them.
        """
        net: Any = self.network
        h = net._apply_initial_convolution(x) + features
        down, h = net._apply_down_blocks(embedding, None, h)
        h = net._apply_mid_block(embedding, None, h)
        down, middle = net._apply_controlnet_blocks(h, down)
        return (*down, middle)

    def read(self, condition: torch.Tensor) -> torch.Tensor:
        """Features `[B, F, x, y, z]` of what it follows.

        Args:
            condition: Bit planes of a mask, `[B, bits, X, Y, Z]`, or `image_condition`.
        """
        net: Any = self.network
        features: torch.Tensor = net.controlnet_cond_embedding(condition)
        return features

    def embed(self, times: torch.Tensor, modalities: torch.Tensor) -> torch.Tensor:
        """`[N, E]` for times `[N]` in 0..1000 and modality ids `[N]`."""
        net: Any = self.network
        embedding: torch.Tensor = net._prepare_time_and_class_embedding(
            _of_its_type(net.time_embed), times, modalities
        )
        return embedding


@final
class FlowStep(nn.Module):
    """A UNet from the point where time, modality and spacing are encoded already.

    Args:
        network: A `FlowUNet`; its weights are used, not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: torch.Tensor, embedding: torch.Tensor, *residuals: torch.Tensor
    ) -> torch.Tensor:
        """The velocity `[B, C, x, y, z]`.

        Args:
            x: `[B, C, x, y, z]`.
            embedding: `[B, E]`, as `embed` gives it.
            residuals: What a ControlNet adds, the middle block's last; none if there is none.
        """
        net: Any = self.network
        h, samples = net._apply_down_blocks(net.conv_in(x), embedding, None, residuals[:-1] or None)
        h = net.middle_block(h, embedding, None)
        if residuals:
            h = h + residuals[-1]
        velocity: torch.Tensor = net.out(net._apply_up_blocks(h, embedding, None, samples))
        return velocity

    def embed(
        self,
        times: torch.Tensor,
        modalities: torch.Tensor,
        spacings: torch.Tensor,
        regions: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """`[N, E]` for times `[N]`, modality ids `[N]` and spacings `[N, 3]` in mm x 100.

        Networks that are told the body's first and last region want `[N, 4]` for each.
        """
        net: Any = self.network
        embedding = net._get_time_and_class_embedding(
            _of_its_type(net.time_embed), times, modalities
        )
        first, last = (None, None) if regions is None else (r.to(embedding) for r in regions)
        whole: torch.Tensor = net._get_input_embeddings(
            embedding, first, last, spacings.to(embedding)
        )
        return whole


@final
@dataclass(frozen=True, slots=True)
class Guidance:
    """Away from what the networks estimate when they are not told the modality.

    Attributes:
        scale: 0 is none; 1 is none either, at twice the cost.
        interval: Least and greatest share of noise, in 0..1, at which it is evaluated.
    """

    scale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def at(self, time: float) -> bool:
        """Whether an evaluation at a time in 0..1000 is guided."""
        low, high = self.interval
        return self.scale > 0 and low <= time / TRAIN_TIMESTEPS <= high


@final
class Velocity:
    """The velocity of one volume at each evaluation of a plan.

    Guided evaluations go through the networks as one batch of two, all others as a batch of one.

    Args:
        control: Its network's weights encode condition and times; `None` if there is none.
        flow: The same of the UNet.
        plan: Whose times are embedded.
        condition: What `control` reads, `[1, …]`; `None` without one. With
            guidance there may be two: what is asked, and what the image is led away from.
        modality: Its id.
        spacing: In mm.
        regions: First and last region of the body, `[1, 4]` each, for networks that are told them.
        guidance: Which evaluations are guided, and how strongly.
        run_control, run_flow: How the networks run, if not by being called.
    """

    def __init__(
        self,
        control: ControlStep | None,
        flow: FlowStep,
        plan: Schedule | Chain,
        *,
        condition: torch.Tensor | None,
        modality: int,
        spacing: Sequence[float],
        guidance: Guidance,
        regions: tuple[torch.Tensor, torch.Tensor] | None = None,
        run_control: Run | None = None,
        run_flow: Run | None = None,
    ) -> None:
        weight = next(flow.parameters())
        device, self._kind = weight.device, weight.dtype
        self._guidance = guidance
        self._times = plan.times
        self._run_control = run_control or control
        self._run_flow = run_flow or flow
        branches = [modality, UNKNOWN_MODALITY] if guidance.scale > 0 else [modality]
        number = len(plan.times)
        times = torch.tensor(plan.times, dtype=torch.float32, device=device)
        spacings = spacing_tensor(spacing, number).to(device)
        classes = [modality_tensor(branch, number).to(device) for branch in branches]
        if regions is not None:
            first, last = (region.to(device).expand(number, -1) for region in regions)
            regions = first, last
        told = [flow.embed(times, ids, spacings, regions) for ids in classes]
        # `[N, branches, E]`: one row of branches for each evaluation.
        self._flow_told = torch.stack(told, dim=1)
        if control is not None:
            assert condition is not None
            self._features = control.read(condition.to(device, self._kind))
            self._control_told = torch.stack([control.embed(times, c) for c in classes], dim=1)

    def __call__(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """The velocity at state `[1, C, x, y, z]` in evaluation `k`, in the state's type."""
        is_guided = self._guidance.at(self._times[k])
        copies = 2 if is_guided else 1
        state = x.to(self._kind).expand(copies, *x.shape[1:])
        residuals: tuple[torch.Tensor, ...] = ()
        if self._run_control is not None:
            features = self._features[:copies].expand(copies, *self._features.shape[1:])
            residuals = self._run_control(state, self._control_told[k, :copies], features)
        found: torch.Tensor = self._run_flow(state, self._flow_told[k, :copies], *residuals)
        found = found.to(x.dtype)
        if not is_guided:
            return found
        asked, unknown = found.chunk(2)
        return unknown + self._guidance.scale * (asked - unknown)


def _of_its_type(network: nn.Module) -> torch.Tensor:
    """A tensor of the type of a network's weights, which MONAI takes the embedding's type from."""
    return next(network.parameters())
