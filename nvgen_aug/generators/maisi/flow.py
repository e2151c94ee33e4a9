"""Flow: the rectified-flow schedule, and the solvers that follow it.

Time runs from 1000 (noise) to 0 (data): `x_t = (1 - t/1000) data + (t/1000) noise`, and the
networks estimate the velocity `data - noise`. Times are warped by the size of the latent, as in
the family (MAISI-v2): a large volume spends more of its steps at high noise.

Each solver on offer goes from one evaluation to the next by the newest velocity and the one before
it, so a solver is two weights for each evaluation, all known before the first of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch

from ...errors import SpecError

TRAIN_TIMESTEPS: Final = 1000.0
SOLVERS: Final = ("euler", "ab2", "heun")
_BASE_VOXELS: Final = 32**3


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of the evaluations, and how far each velocity carries.

    After evaluation `k` the state moves by `steps[k]` times its velocity and `carries[k]` times
    the velocity of evaluation `k - 1`. On the exact path all weights together add up to one.

    Attributes:
        times: In 0..1000, one for each evaluation.
        steps: Weight of the newest velocity, one for each evaluation.
        carries: Weight of the velocity before it, one for each evaluation; all zero if not given.
    """

    times: tuple[float, ...]
    steps: tuple[float, ...]
    carries: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.carries:
            object.__setattr__(self, "carries", (0.0,) * len(self.times))


def warp_ratio(latent_voxels: int) -> float:
    """How strongly times are moved for a latent of this many voxels; 1 at 32 cubed."""
    return float((latent_voxels / _BASE_VOXELS) ** (1.0 / 3.0))


def warp(time: torch.Tensor, latent_voxels: int) -> torch.Tensor:
    """Warp times in 0..1."""
    ratio = warp_ratio(latent_voxels)
    return ratio * time / (1.0 + (ratio - 1.0) * time)


def schedule(
    evaluations: int, latent_voxels: int, numerics: str = "exact", solver: str = "euler"
) -> Schedule:
    """What a solver does with a number of evaluations.

    Args:
        evaluations: How often the networks run, whatever the solver.
        latent_voxels: Voxels of the latent, which set the warp.
        numerics: `exact`, whose weights add up to one, or `reference`, which rounds times to half
            precision and truncates the next time to an integer as NV-Generate does, so that its
            steps add up to slightly more than one.
        solver: `euler`; `ab2`, Adams and Bashforth's method of second order for uneven steps,
            which begins with an Euler step; or `heun`, the trapezoidal rule on an Euler predictor,
            two evaluations a step, with an Euler step at the end if their number is odd (Hairer,
            Nørsett and Wanner, Solving Ordinary Differential Equations I, II.1 and III.5).

    Raises:
        SpecError: The solver is unknown, or has no `reference` numerics.
    """
    if solver not in SOLVERS or (numerics == "reference" and solver != "euler"):
        msg = f"{numerics} numerics have no solver {solver!r}; exact ones have {SOLVERS}, "
        msg += "reference ones `euler`"
        raise SpecError(msg)
    if solver == "heun":
        return _heun(evaluations, latent_voxels)
    times = _warped(evaluations, latent_voxels)
    ends = [*times[1:], 0.0]
    if numerics == "reference":
        times = [float(np.float16(t)) for t in times]
        ends = [float(int(t)) for t in times[1:]] + [0.0]
    sizes = [(start - end) / TRAIN_TIMESTEPS for start, end in zip(times, ends, strict=True)]
    if solver == "euler":
        return Schedule(tuple(times), tuple(sizes))
    # The line through both velocities, integrated over the step.
    back = [0.0, *(size * size / (2.0 * last) for last, size in itertools.pairwise(sizes))]
    steps = [size + part for size, part in zip(sizes, back, strict=True)]
    return Schedule(tuple(times), tuple(steps), tuple(-part for part in back))


def _warped(count: int, latent_voxels: int) -> list[float]:
    ratio = warp_ratio(latent_voxels)
    even = [1.0 - i / count for i in range(count)]
    return [TRAIN_TIMESTEPS * ratio * u / (1.0 + (ratio - 1.0) * u) for u in even]


def _heun(evaluations: int, latent_voxels: int) -> Schedule:
    starts = _warped(math.ceil(evaluations / 2), latent_voxels)
    times, steps, carries = [], [], []
    for start, end in itertools.pairwise([*starts, 0.0]):
        size = (start - end) / TRAIN_TIMESTEPS
        times += [start, end]
        # The second velocity takes half of the Euler step back, and adds its own half.
        steps += [size, size / 2]
        carries += [0.0, -size / 2]
    cut = slice(evaluations)
    return Schedule(tuple(times[cut]), tuple(steps[cut]), tuple(carries[cut]))


def draw_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Standard normal noise, always drawn on the CPU in fp32 from a generator of its own."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def solve(
    velocity: Callable[[torch.Tensor, int], torch.Tensor], noise: torch.Tensor, plan: Schedule
) -> torch.Tensor:
    """From noise to data.

    Args:
        velocity: Of `(x, k)`, the state and the number of the evaluation, whose time is
            `plan.times[k]`.
        noise: `[B, C, x, y, z]`; it is not changed.
        plan: What the solver does.
    """
    x, before = noise, None
    for k, (step, carry) in enumerate(zip(plan.steps, plan.carries, strict=True)):
        now = velocity(x, k)
        x = x + now * step
        if before is not None and carry:
            x = x + before * carry
        before = now
    return x


def noised(data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """The point at `time` (`[B]`, 0..1) on the straight way between data and noise."""
    share = time.reshape(-1, *itertools.repeat(1, data.ndim - 1))
    return (1.0 - share) * data + share * noise
