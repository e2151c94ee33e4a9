"""Reference numerics: NV-Generate's numbers for the same weights and the same noise.

What differs from the exact path: times rounded to half precision and steps cut at whole numbers
(`flow.schedule`), conditions in half precision, an image under a mask whose state is kept in half
precision all the way, and an autoencoder that decodes a large latent in windows, each with group
norms of its own. On a GPU the networks run under autocast to half precision, as upstream's do; on a
processor, where upstream cannot run, they run in single precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from typing import final

import torch
from monai.inferers.inferer import SlidingWindowInferer
from monai.networks.schedulers.ddpm import DDPMScheduler
from torch import nn

from .conditioning import mask_bits
from .conditioning import modality_tensor
from .conditioning import spacing_tensor
from .ddpm import BETAS
from .ddpm import TRAIN_TIMES
from .flow import schedule
from .variants import Window
from .vocabulary import UNKNOWN_MODALITY

Estimate = Callable[[torch.Tensor, float], torch.Tensor]


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What the networks are told, whatever the state and the time.

    Attributes:
        label: Mask `[1, X, Y, Z]`, uint8, or `None` for an image alone.
        modality: Its id; `None` for networks that know none.
        spacing: In mm.
        regions: Numbers of the first and the last region of the body, of so many; or `None`.
        guidance: Scale of guidance on the modality and on tumours; 0 is none.
        healthy: With guidance, the mask that the image is led away from; `None` if it is the same.
    """

    label: torch.Tensor | None
    modality: int | None
    spacing: Sequence[float]
    regions: tuple[int, int, int] | None = None
    guidance: float = 0.0
    healthy: torch.Tensor | None = None


def reference_noise(
    shape: tuple[int, ...], seed: int, device: torch.device, *, is_paired: bool
) -> tuple[torch.Tensor, torch.Generator]:
    """The first state, and the generator that a DDPM goes on with.

    Under a mask it is drawn on the CPU and rounded to half precision; alone it is drawn in single
    precision where the networks run, so that one seed gives different noise in both ways.
    """
    drawn = torch.Generator("cpu" if is_paired else device).manual_seed(seed)
    noise = torch.randn(shape, generator=drawn, device=drawn.device)
    # Upstream seeds the generators of all devices alike, and goes on with that of the networks.
    is_same = drawn.device.type == device.type
    following = drawn if is_same else torch.Generator(device).manual_seed(seed)
    return (noise.half() if is_paired else noise).to(device), following


@torch.inference_mode()
def reference_flow(
    flow: nn.Module, control: nn.Module | None, told: Told, noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """A rectified flow from noise to a latent, in the type of the noise."""
    estimate = _estimate(flow, control, told, noise.device)
    plan = schedule(steps, math.prod(noise.shape[2:]), "reference")
    x = noise
    for time, step in zip(plan.times, plan.steps, strict=True):
        x = (x + estimate(x, time) * step).to(noise.dtype)
    return x


@torch.inference_mode()
def reference_ddpm(
    flow: nn.Module,
    control: nn.Module | None,
    told: Told,
    noise: torch.Tensor,
    steps: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """A DDPM from noise to a latent, in the type of the noise.

    With fewer than 1000 steps each step still removes the noise of one time only, as upstream's
    does, so that most of it stays.
    """
    return reference_links(_estimate(flow, control, told, noise.device), noise, steps, generator)


@torch.inference_mode()
def reference_links(
    estimate: Estimate, noise: torch.Tensor, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """The links of a DDPM, given what the networks say of a state at a time."""
    scheduler = DDPMScheduler(
        num_train_timesteps=TRAIN_TIMES,
        schedule="scaled_linear_beta",
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    x = noise
    for time in scheduler.timesteps:
        after, _ = scheduler.step(estimate(x, float(time)), int(time), x, generator)
        x = after.to(noise)
    return x


@torch.inference_mode()
def reference_decode(
    decode: Callable[[torch.Tensor], torch.Tensor], latent: torch.Tensor, window: Window
) -> torch.Tensor:
    """The image of a latent `[1, C, x, y, z]`, `[1, 1, X, Y, Z]` in network units.

    In half precision, under a mask, windows are added up on the CPU; else where the latent is.

    Args:
        decode: A latent, or a part of it, to its image.
        latent: In the type in which windows are added up.
        window: Edges of a part in latent voxels, and share that neighbours have in common. A
            latent of no more voxels is decoded at once.
    """
    size, overlap = window
    with precision_of(latent.device):
        if math.prod(latent.shape[2:]) <= math.prod(size):
            return decode(latent).to(latent.dtype)
        is_half = latent.dtype == torch.float16
        inferer = SlidingWindowInferer(
            roi_size=[min(a, b) for a, b in zip(size, latent.shape[2:], strict=True)],
            sw_batch_size=1,
            overlap=overlap,
            mode="gaussian",
            sw_device=latent.device,
            device=torch.device("cpu") if is_half else latent.device,
        )
        found: Any = inferer(inputs=latent, network=decode)
    joined: torch.Tensor = found.to(latent.device)
    return joined


def _estimate(
    flow: nn.Module, control: nn.Module | None, told: Told, device: torch.device
) -> Estimate:
    """What the networks say of a state at a time in 0..1000."""
    kind = next(flow.parameters()).dtype
    branches = [told.modality]
    if told.guidance > 0:
        branches.append(UNKNOWN_MODALITY)
    copies = len(branches)

    def given(tensor: torch.Tensor) -> torch.Tensor:
        # Rounded to half precision, in the type that the networks take here.
        half = tensor.half().to(device)
        return half if device.type == "cuda" else half.to(kind)

    fixed: dict[str, Any] = {"spacing_tensor": given(spacing_tensor(told.spacing, copies))}
    classes: dict[str, Any] = {}
    if told.modality is not None:
        ids = [modality_tensor(branch) for branch in branches if branch is not None]
        classes["class_labels"] = torch.cat(ids).to(device)
    if told.regions is not None:
        *ends, count = told.regions
        top, bottom = (100.0 * torch.eye(count)[[end]].repeat(copies, 1) for end in ends)
        fixed["top_region_index_tensor"] = given(top)
        fixed["bottom_region_index_tensor"] = given(bottom)
    mask = None
    if told.label is not None:
        others = [told.label if told.healthy is None else told.healthy] * (copies - 1)
        mask = given(mask_bits(torch.cat([told.label, *others])))

    def estimate(x: torch.Tensor, time: float) -> torch.Tensor:
        state = (x if device.type == "cuda" else x.to(kind)).repeat(copies, 1, 1, 1, 1)
        times = torch.full((copies,), time, device=device)
        added: dict[str, Any] = {}
        with precision_of(device):
            if mask is not None:
                assert control is not None, "a variant without ControlNet takes no mask"
                down, middle = control(x=state, timesteps=times, controlnet_cond=mask, **classes)
                added["down_block_additional_residuals"] = down
                added["mid_block_additional_residual"] = middle
            found: torch.Tensor = flow(x=state, timesteps=times, **classes, **fixed, **added)
        found = found.to(x.dtype) if x.dtype == torch.float16 else found.float()
        if copies == 1:
            return found
        asked, unknown = found.chunk(2)
        return unknown + told.guidance * (asked - unknown)

    return estimate


def precision_of(device: torch.device, *, is_half: bool = True) -> AbstractContextManager[Any]:
    """On a GPU autocast to half precision, if wanted; elsewhere nothing."""
    is_cast = is_half and device.type == "cuda"
    return torch.autocast("cuda", torch.float16) if is_cast else nullcontext()
