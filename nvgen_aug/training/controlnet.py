"""ControlNet stage: the flow learns to follow a mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from ..generators.maisi.conditioning import mask_bits
from ..generators.maisi.variants import Variant
from .flow import draw_batch
from .latents import Latents
from .pool import Pool
from .run import Progress
from .run import Run

# How often a step goes without the mask, so that the UNet alone keeps making images.
_WITHOUT_MASK: Final = 0.1


def begin_as_copy(control: nn.Module, flow: nn.Module) -> None:
    """Give the ControlNet every tensor of the UNet that it has in the same shape."""
    source = flow.state_dict()
    target = control.state_dict()
    shared = {k: source[k] for k, v in target.items() if k in source and source[k].shape == v.shape}
    control.load_state_dict({**target, **shared})


def train_control(
    flow: nn.Module,
    control: nn.Module,
    pool: Pool,
    latents: Latents,
    variant: Variant,
    work_dir: Path,
    *,
    minutes: float,
    device: str,
    seed: int,
    resume: bool,
    report: Callable[[Progress], None],
) -> Run:
    """Train ControlNet and UNet together within `minutes`.

    The large members of the family keep the UNet fixed here. This one is too narrow and too briefly
    trained for that: what the mask adds is most of what it has to learn.
    """
    begin_as_copy(control, flow)
    both = nn.ModuleDict({"flow": flow, "control": control})
    both.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = Run(
        "controlnet",
        both,
        work_dir,
        minutes=minutes,
        learning_rate=1e-3,
        ema=0.995,
        resume=resume,
        report=report,
    )
    rng = np.random.default_rng((seed, 3, run.step))
    for _ in run:
        batch = draw_batch(pool, latents, variant, rng, device)
        down, middle = None, None
        if rng.random() >= _WITHOUT_MASK:
            condition = mask_bits(batch.label, variant.flow.mask_bits)
            down, middle = control(
                x=batch.point,
                timesteps=batch.time,
                controlnet_cond=condition.contiguous(memory_format=torch.channels_last_3d),
                class_labels=batch.modality,
            )
        estimate = flow(
            x=batch.point,
            timesteps=batch.time,
            class_labels=batch.modality,
            spacing_tensor=batch.spacing,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )
        run.update(batch.loss(estimate))
    return run
