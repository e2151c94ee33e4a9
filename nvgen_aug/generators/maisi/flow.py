"""Flow: the rectified-flow schedule and its Euler solver.

Time runs from 1000 (noise) to 0 (data): `x_t = (1 - t/1000) data + (t/1000) noise`, and the
networks estimate the velocity `data - noise`. Times are warped by the size of the latent, as in
the family (MAISI-v2): a large volume spends more of its steps at high noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch

TRAIN_TIMESTEPS: Final = 1000.0
_BASE_VOXELS: Final = 32**3


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of the evaluations, and how far each Euler step goes.

    Attributes:
        times: In 0..1000, descending, one for each evaluation.
        steps: Share of the way from noise to data, one for each evaluation.
    """

    times: tuple[float, ...]
    steps: tuple[float, ...]


def warp_ratio(latent_voxels: int) -> float:
    """How strongly times are moved for a latent of this many voxels; 1 at 32 cubed."""
    return float((latent_voxels / _BASE_VOXELS) ** (1.0 / 3.0))


def warp(time: torch.Tensor, latent_voxels: int) -> torch.Tensor:
    """Warp times in 0..1."""
    ratio = warp_ratio(latent_voxels)
    return ratio * time / (1.0 + (ratio - 1.0) * time)


def schedule(steps: int, latent_voxels: int, numerics: str = "exact") -> Schedule:
    """Warped times for `steps` evaluations.

    Args:
        steps: Number of evaluations.
        latent_voxels: Voxels of the latent, which set the warp.
        numerics: `exact`, whose step sizes add up to one, or `reference`, which rounds times to
            half precision and truncates the next time to an integer as NV-Generate does, so that
            its steps add up to slightly more than one.
    """
    ratio = warp_ratio(latent_voxels)
    even = [1.0 - i / steps for i in range(steps)]
    times = [TRAIN_TIMESTEPS * ratio * u / (1.0 + (ratio - 1.0) * u) for u in even]
    if numerics == "reference":
        times = [float(np.float16(t)) for t in times]
        ends = [float(int(t)) for t in times[1:]] + [0.0]
    else:
        ends = [*times[1:], 0.0]
    sizes = [(start - end) / TRAIN_TIMESTEPS for start, end in zip(times, ends, strict=True)]
    return Schedule(tuple(times), tuple(sizes))


def draw_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Standard normal noise, always drawn on the CPU in fp32 from a generator of its own."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def solve(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    plan: Schedule,
) -> torch.Tensor:
    """Euler's method from noise to data.

    Args:
        velocity: Of `(x, time)`, where `time` is float32 `[B]` in 0..1000.
        noise: `[B, C, x, y, z]`.
        plan: Times and steps.
    """
    x = noise
    for time, step in zip(plan.times, plan.steps, strict=True):
        now = torch.full((x.shape[0],), time, dtype=torch.float32, device=x.device)
        x = x + velocity(x, now) * step
    return x


def noised(data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """The point at `time` (`[B]`, 0..1) on the straight way between data and noise."""
    share = time.reshape(-1, *itertools.repeat(1, data.ndim - 1))
    return (1.0 - share) * data + share * noise
