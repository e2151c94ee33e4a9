"""Image ControlNet stages: the flow learns to render a given brain in another contrast.

Two stages. In the first the layers that read the image's latent learn to say of it what the mask's
encoder says of the brain's mask, which takes minutes, since neither the ControlNet behind it nor
the UNet has to run. With it, the ControlNet that follows masks follows images. In the second that
ControlNet learns on from there what a mask leaves open. The UNet stays as it is, and so does what
it makes of masks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ..generators.maisi.conditioning import image_condition
from ..generators.maisi.conditioning import mask_bits
from ..generators.maisi.conditioning import spacing_tensor
from ..generators.maisi.flow import TRAIN_TIMESTEPS
from ..generators.maisi.flow import noised
from ..generators.maisi.flow import warp
from ..generators.maisi.placement import use_onednn
from ..generators.maisi.variants import Variant
from .flow import LESION_WEIGHT
from .matched import Matched
from .run import Run
from .run import StageSettings
from .stand_ins import MODALITIES

_BATCH: Final = 4


def begin_as_mask_control(image_control: nn.Module, control: nn.Module) -> None:
    """Give the image ControlNet every tensor of the mask's, but for what reads the condition."""
    trunk = {
        key: value
        for key, value in control.state_dict().items()
        if not key.startswith("controlnet_cond_embedding.")
    }
    image_control.load_state_dict({**image_control.state_dict(), **trunk})


def train_image_encoder(
    reader: nn.Module,
    encoder: nn.Module,
    matched: Matched,
    variant: Variant,
    scale_factor: float,
    settings: StageSettings,
) -> Run:
    """Train what reads an image within its minutes; the run holds the averaged weights.

    Args:
        reader: `controlnet_cond_embedding` of the image ControlNet.
        encoder: That of the ControlNet that follows masks, trained.
        matched: Brains in all contrasts.
        variant: What is trained.
        scale_factor: Of the latents.
        settings: Where, and for how long.
    """
    reader.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = Run(
        "image_encoder", reader, settings, learning_rate=3e-3, rate_times_inputs=6.0, ema=0.99
    )
    if run.fraction >= 1:
        return run
    said = _said(encoder, matched, variant, settings)
    spread = float(said.astype(np.float32).var())
    rng = np.random.default_rng((settings.seed, 5, run.step))
    for _ in run:
        subjects = rng.integers(len(matched), size=_BATCH)
        contrasts = rng.integers(len(MODALITIES), size=_BATCH)
        latent = _latent(matched, subjects, contrasts, scale_factor, settings)
        wanted = torch.from_numpy(said[subjects].astype(np.float32)).to(settings.device)
        run.update((reader(_condition(latent)) - wanted).square().mean() / spread)
    return run


def train_image_control(
    flow: nn.Module,
    image_control: nn.Module,
    matched: Matched,
    variant: Variant,
    scale_factor: float,
    settings: StageSettings,
) -> Run:
    """Train the image ControlNet within its minutes; it then holds its averaged weights.

    Args:
        flow: The UNet, trained; it does not change.
        image_control: Begun as `begin_as_mask_control`, its reader trained.
        matched: Brains in all contrasts.
        variant: What is trained.
        scale_factor: Of the latents.
        settings: Where, and for how long.
    """
    both = nn.ModuleList([flow, image_control])
    both.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if settings.device == "cpu":
        use_onednn(both)
    flow.eval().requires_grad_(False)
    run = Run("image_control", image_control, settings, learning_rate=5e-4, ema=0.99)
    rng = np.random.default_rng((settings.seed, 6, run.step))
    ids = np.asarray([variant.modalities[name] for name in MODALITIES])
    for _ in run:
        subjects = rng.integers(len(matched), size=_BATCH)
        given = rng.integers(len(MODALITIES), size=_BATCH)
        wanted = rng.integers(len(MODALITIES), size=_BATCH)
        source = _latent(matched, subjects, given, scale_factor, settings)
        data = _latent(matched, subjects, wanted, scale_factor, settings)
        noise = torch.from_numpy(rng.standard_normal(tuple(data.shape), dtype=np.float32))
        noise = noise.to(settings.device)
        even = torch.from_numpy(
            ((np.arange(_BATCH) + rng.random(_BATCH)) / _BATCH).astype(np.float32)
        )
        time = warp(even, int(np.prod(data.shape[2:])))
        time[::2] = even[::2].sqrt()  # where there is noise, the image is all there is to go by
        time = time.to(settings.device)
        point = noised(data, noise, time).contiguous(memory_format=torch.channels_last_3d)
        modality = torch.from_numpy(ids[wanted]).to(settings.device)
        down, middle = image_control(
            x=point,
            timesteps=time * TRAIN_TIMESTEPS,
            controlnet_cond=_condition(source),
            class_labels=modality,
        )
        estimate = flow(
            x=point,
            timesteps=time * TRAIN_TIMESTEPS,
            class_labels=modality,
            spacing_tensor=spacing_tensor(variant.spacing, _BATCH).to(settings.device),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )
        weight = _weight(matched, subjects, variant, settings)
        square = (estimate - (data - noise)).square().mean(dim=1, keepdim=True)
        run.update((weight * square).sum() / weight.sum())
    run.averaged()
    return run


def _condition(latent: torch.Tensor) -> torch.Tensor:
    return image_condition(latent).contiguous(memory_format=torch.channels_last_3d)


def _latent(
    matched: Matched,
    subjects: NDArray[np.int64],
    contrasts: NDArray[np.int64],
    scale_factor: float,
    settings: StageSettings,
) -> torch.Tensor:
    means = matched.means[subjects, contrasts].astype(np.float32) * scale_factor
    return torch.from_numpy(means).to(settings.device)


def _weight(
    matched: Matched, subjects: NDArray[np.int64], variant: Variant, settings: StageSettings
) -> torch.Tensor:
    """`[B, 1, x, y, z]`, larger where there is lesion."""
    label = torch.from_numpy(matched.labels[subjects]).to(settings.device)
    lesion = (label == variant.labels["lesion"]).float()[:, None]
    near = functional.max_pool3d(lesion, variant.compression)
    return 1.0 + (LESION_WEIGHT - 1.0) * near


@torch.inference_mode()
def _said(
    encoder: nn.Module, matched: Matched, variant: Variant, settings: StageSettings
) -> NDArray[np.float16]:
    """What the mask's encoder says of each brain's mask, `[N, width, x, y, z]`."""
    encoder.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if settings.device == "cpu":
        use_onednn(encoder)
    rows = []
    for label in matched.labels:
        bits = mask_bits(torch.from_numpy(label)[None].to(settings.device), variant.flow.mask_bits)
        said = encoder(bits.contiguous(memory_format=torch.channels_last_3d))
        rows.append(said[0].to("cpu", torch.float16).contiguous().numpy())
    return np.stack(rows)
