"""Mask encoder stage: the ControlNet's eye, taught before the rest of it.

The encoder works at the image's resolution and is the dearest part of a step, while all it has to
say is which tissue lies where. So it first learns alone to foretell latents through a linear head,
and then stays as it is: what it says of every mask of the pool is computed once.
"""

from __future__ import annotations

from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..generators.maisi.conditioning import mask_bits
from ..generators.maisi.placement import use_onednn
from ..generators.maisi.variants import Variant
from .flow import draw_batch
from .latents import Latents
from .pool import Pool
from .run import Progress
from .run import Run
from .run import StageSettings
from .stand_ins import MODALITIES
from .tissue_code import start_as_tissue_code

_BATCH: Final = 4


@final
class Foreteller(nn.Module):
    """A mask encoder, and a linear head that tells the mean latent of each modality.

    Args:
        encoder: `[B, bits, X, Y, Z]` to `[B, width, x, y, z]`.
        width: Channels of what the encoder says.
        latent: Latent channels.
    """

    def __init__(self, encoder: nn.Module, width: int, latent: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Conv3d(width, latent * len(MODALITIES), 1)
        self.latent = latent

    def forward(self, bits: torch.Tensor, modality: torch.Tensor) -> torch.Tensor:
        """Latents `[B, latent, x, y, z]` for the modality numbers `[B]`."""
        said = self.head(self.encoder(bits))
        by_modality = said.unflatten(1, (len(MODALITIES), self.latent))
        chosen: torch.Tensor = by_modality[torch.arange(len(modality)), modality]
        return chosen


def train_mask_encoder(
    encoder: nn.Module,
    pool: Pool,
    latents: Latents,
    variant: Variant,
    settings: StageSettings,
) -> Run:
    """Train a ControlNet's mask encoder within its minutes; the run holds the averaged weights."""
    start_as_tissue_code(encoder)
    network = Foreteller(encoder, variant.flow.channels[0], variant.autoencoder.latent)
    network.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if settings.device == "cpu":
        use_onednn(network)
    run = Run(
        "mask_encoder",
        network,
        settings,
        learning_rate=1e-2,
        rate_times_inputs=0.5,
        ema=0.99,
    )
    rng = np.random.default_rng((settings.seed, 4, run.step))
    for _ in run:
        batch = draw_batch(pool, latents, variant, rng, settings.device, size=_BATCH)
        bits = mask_bits(batch.label, variant.flow.mask_bits)
        modality = torch.from_numpy(pool.modalities[batch.indices]).to(settings.device)
        foretold = network(bits.contiguous(memory_format=torch.channels_last_3d), modality)
        run.update(batch.weighted(foretold - batch.data))
    return run


@torch.inference_mode()
def encode_masks(
    encoder: nn.Module,
    pool: Pool,
    variant: Variant,
    settings: StageSettings,
) -> NDArray[np.float16]:
    """What the encoder says of each mask and its mirror image, `[N, 2, width, x, y, z]`."""
    rows = []
    for index in range(len(pool)):
        label = pool.labels[index]
        both = torch.from_numpy(np.stack([label, label[::-1]])).to(settings.device)
        bits = mask_bits(both, variant.flow.mask_bits)
        said = encoder(bits.contiguous(memory_format=torch.channels_last_3d))
        rows.append(said.cpu().to(torch.float16).contiguous().numpy())
        if index % 50 == 49:
            settings.report(Progress("masks", index + 1, (index + 1) / len(pool), 0.0, 0.0, 0.0))
    return np.stack(rows)
