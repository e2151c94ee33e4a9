"""ControlNet stage: the flow learns to follow a mask."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import nn

from ..generators.maisi.placement import use_onednn
from ..generators.maisi.variants import Variant
from .flow import draw_batch
from .latents import Latents
from .mask_encoder import encode_masks
from .pool import Pool
from .run import Run
from .run import StageSettings

# How often a step goes without the mask, so that the UNet alone keeps making images.
_WITHOUT_MASK: Final = 0.1


# Small batches and many steps: each holds thousands of places to learn from.
_BATCH: Final = 4


def begin_as_copy(control: nn.Module, flow: nn.Module) -> None:
    """Give the ControlNet every tensor of the UNet that it has in the same shape.

    Its last convolutions, which start at zero where the UNet stays as it is, start at random here:
    both learn at once, and through zeros nothing is learnt at first.
    """
    source = flow.state_dict()
    target = control.state_dict()
    shared = {k: source[k] for k, v in target.items() if k in source and source[k].shape == v.shape}
    control.load_state_dict({**target, **shared})
    for module in control.modules():
        if isinstance(module, nn.Conv3d) and not bool(module.weight.any()):
            module.reset_parameters()


def train_control(
    flow: nn.Module,
    control: nn.Module,
    pool: Pool,
    latents: Latents,
    variant: Variant,
    settings: StageSettings,
) -> Run:
    """Train ControlNet and UNet together within its minutes; both then hold their averaged weights.

    The large members of the family keep the UNet fixed here. This one is too narrow and too briefly
    trained for that: what the mask adds is most of what it has to learn. And it learns that where
    there is noise and little else to go by, hence more such times than the flow's own share. The
    mask encoder has had its own stage and stays as it is.
    """
    begin_as_copy(control, flow)
    encoder = control.controlnet_cond_embedding
    assert isinstance(encoder, nn.Module)
    control.controlnet_cond_embedding = nn.Identity()
    both = nn.ModuleDict({"flow": flow, "control": control})
    both.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if settings.device == "cpu":
        use_onednn(both)
    run = Run(
        "controlnet",
        both,
        settings,
        learning_rate=2e-3,
        rate_times_inputs=1.2,
        ema=0.995,
    )
    if run.fraction < 1:
        said = encode_masks(encoder, pool, variant, settings)
    rng = np.random.default_rng((settings.seed, 3, run.step))
    for _ in run:
        batch = draw_batch(pool, latents, variant, rng, settings.device, size=_BATCH, early=True)
        down, middle = None, None
        if rng.random() >= _WITHOUT_MASK:
            features = torch.from_numpy(said[batch.indices, batch.mirrored].astype(np.float32))
            down, middle = control(
                x=batch.point,
                timesteps=batch.time,
                controlnet_cond=features.to(settings.device).contiguous(
                    memory_format=torch.channels_last_3d
                ),
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
    run.averaged()
    control.controlnet_cond_embedding = encoder
    return run
