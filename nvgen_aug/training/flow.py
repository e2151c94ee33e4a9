"""Flow stage: the rectified-flow UNet alone, on stored latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ..generators.maisi.conditioning import spacing_tensor
from ..generators.maisi.flow import TRAIN_TIMESTEPS
from ..generators.maisi.flow import noised
from ..generators.maisi.flow import warp
from ..generators.maisi.variants import Variant
from ..generators.maisi.vocabulary import UNKNOWN_MODALITY
from .latents import Latents
from .pool import Pool
from .run import Run
from .run import StageSettings
from .stand_ins import MODALITIES

BATCH: Final = 8
LESION_WEIGHT: Final = 10.0

# How often the modality is hidden, so that the network also learns the unguided branch.
_HIDDEN_MODALITY: Final = 0.1


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch of the flow.

    Attributes:
        indices: `[B]` numbers in the pool.
        mirrored: `[B]`, 1 where a sample is mirrored along x.
        label: `[B, X, Y, Z]` uint8.
        point: `[B, C, x, y, z]` at `time` on the way from noise to data.
        velocity: `[B, C, x, y, z]`, data minus noise.
        time: `[B]` in 0..1000.
        modality: `[B]` ids.
        spacing: `[B, 3]`, mm x 100.
        weight: `[B, 1, x, y, z]`, larger where there is lesion.
    """

    indices: NDArray[np.int64]
    mirrored: NDArray[np.int64]
    label: torch.Tensor
    point: torch.Tensor
    velocity: torch.Tensor
    time: torch.Tensor
    modality: torch.Tensor
    spacing: torch.Tensor
    weight: torch.Tensor

    @property
    def data(self) -> torch.Tensor:
        """Where the way ends, `[B, C, x, y, z]`."""
        share = self.time / TRAIN_TIMESTEPS
        return self.point + share[:, None, None, None, None] * self.velocity

    def loss(self, estimate: torch.Tensor) -> torch.Tensor:
        """Weighted mean squared error of a velocity."""
        return self.weighted(estimate - self.velocity)

    def weighted(self, error: torch.Tensor) -> torch.Tensor:
        """Weighted mean square of an error `[B, C, x, y, z]`."""
        square = error.square().mean(dim=1, keepdim=True)
        return (self.weight * square).sum() / self.weight.sum()


def draw_batch(
    pool: Pool,
    latents: Latents,
    variant: Variant,
    rng: np.random.Generator,
    device: str,
    *,
    size: int = BATCH,
    early: bool = False,
) -> Batch:
    """Latents, noise and times for one step.

    Args:
        pool: Where labels and modalities come from.
        latents: Of the same pool.
        variant: What is trained.
        rng: All chance there is.
        device: Where the batch goes.
        size: Samples in it.
        early: Whether every other time is drawn from the noisy end, with density 2t.
    """
    indices = rng.integers(len(pool), size=size)
    mirrored = rng.integers(2, size=size)
    means = latents.means[indices, mirrored].astype(np.float32) * latents.scale_factor
    labels = [
        pool.labels[i][::-1] if m else pool.labels[i]
        for i, m in zip(indices, mirrored, strict=True)
    ]
    label = torch.from_numpy(np.stack(labels))
    data = torch.from_numpy(means)
    noise = torch.from_numpy(rng.standard_normal(means.shape, dtype=np.float32))
    even = torch.from_numpy((np.arange(size) + rng.random(size)).astype(np.float32) / size)
    time = warp(even, int(np.prod(means.shape[2:])))
    if early:
        time[::2] = even[::2].sqrt()
    ids = np.asarray([variant.modalities[MODALITIES[m]] for m in pool.modalities[indices]])
    ids[rng.random(size) < _HIDDEN_MODALITY] = UNKNOWN_MODALITY
    lesion = (label == variant.labels["lesion"]).float()[:, None]
    near = functional.max_pool3d(lesion, variant.compression)
    layout = torch.channels_last_3d
    return Batch(
        indices=indices,
        mirrored=mirrored,
        label=label.to(device),
        point=noised(data, noise, time).to(device).contiguous(memory_format=layout),
        velocity=(data - noise).to(device),
        time=time.to(device) * TRAIN_TIMESTEPS,
        modality=torch.from_numpy(ids).to(device),
        spacing=spacing_tensor(variant.spacing, size).to(device),
        weight=(1.0 + (LESION_WEIGHT - 1.0) * near).to(device),
    )


def quiet_spacing(network: nn.Module) -> None:
    """Scale the spacing input down to unit size and fix that layer.

    Spacings reach it as mm x 100. With one spacing in the data, its first layer could learn nothing
    but a bias, at three hundred times the learning rate of any other.
    """
    first = network.spacing_layer[0]  # type: ignore[index]
    with torch.no_grad():
        first.weight.mul_(0.01)  # type: ignore[union-attr]
    first.requires_grad_(False)


def train_flow(
    network: nn.Module,
    pool: Pool,
    latents: Latents,
    variant: Variant,
    settings: StageSettings,
) -> Run:
    """Train the UNet without any mask within its minutes."""
    quiet_spacing(network)
    network.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = Run(
        "flow",
        network,
        settings,
        learning_rate=1e-3,
        ema=0.995,
    )
    rng = np.random.default_rng((settings.seed, 2, run.step))
    for _ in run:
        batch = draw_batch(pool, latents, variant, rng, settings.device)
        estimate = network(
            x=batch.point,
            timesteps=batch.time,
            class_labels=batch.modality,
            spacing_tensor=batch.spacing,
        )
        run.update(batch.loss(estimate))
    return run
