"""DDPM: the chain of `ddpm-ct` from noise to data, one evaluation for each link.

The networks estimate the noise in a state (Ho, Jain and Abbeel, Denoising Diffusion Probabilistic
Models, 2020). With fewer evaluations than in training the chain is respaced, as in Nichol and
Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021: each link then removes the noise
of all times that it leaps over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch

TRAIN_TIMES: Final = 1000
# Variance of the noise that the first and the last time add; its root grows evenly between.
BETAS: Final = (0.0015, 0.0195)


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """What each link does: the state becomes `keep * state + take * estimate + add * noise`.

    Attributes:
        times: In 0..999, descending, one for each evaluation.
        keep, take, add: One for each evaluation; the last adds nothing.
    """

    times: tuple[float, ...]
    keep: tuple[float, ...]
    take: tuple[float, ...]
    add: tuple[float, ...]


def chain(evaluations: int) -> Chain:
    """The chain with a number of evaluations, 1 to 1000, evenly spread from 999 to 0."""
    low, high = BETAS
    betas = np.linspace(low**0.5, high**0.5, TRAIN_TIMES) ** 2
    signal = np.cumprod(1.0 - betas)
    times = np.linspace(TRAIN_TIMES - 1, 0, evaluations).round().astype(int)
    now, after = signal[times], np.append(signal[times[1:]], 1.0)
    # The posterior of the next state, given this one and the data that the estimate implies.
    beta = 1.0 - now / after
    of_data = np.sqrt(after) * beta / (1.0 - now)
    keep = np.sqrt(1.0 - beta) * (1.0 - after) / (1.0 - now) + of_data / np.sqrt(now)
    take = -of_data * np.sqrt((1.0 - now) / now)
    add = np.sqrt((1.0 - after) / (1.0 - now) * beta)
    return Chain(*(tuple(float(v) for v in values) for values in (times, keep, take, add)))


def walk(
    estimate: Callable[[torch.Tensor, int], torch.Tensor],
    noise: torch.Tensor,
    plan: Chain,
    seed: int,
) -> torch.Tensor:
    """From noise to data.

    Args:
        estimate: Of `(x, k)`, the state and the number of the evaluation: the noise in it.
        noise: `[B, C, x, y, z]`; it is not changed.
        plan: The chain.
        seed: Where the noise of the links comes from, drawn on the CPU whatever the device.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    x = noise
    for k, (keep, take, add) in enumerate(zip(plan.keep, plan.take, plan.add, strict=True)):
        x = keep * x + take * estimate(x, k)
        if add:
            fresh = torch.randn(x.shape, generator=generator, dtype=torch.float32)
            x = x + add * fresh.to(x)
    return x
