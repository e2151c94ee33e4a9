"""Run: one stage of training that can be stopped and taken up again.

The learning rate follows the share of the time budget that is spent, not a number of steps, so a
schedule completes on any machine. Weights, their moving average, the optimizer and the clock are
written together every five minutes, beside the old file and then renamed over it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Final
from typing import final

import torch
from torch import nn

from ..whole_file import replacing

_SECONDS_BETWEEN_CHECKPOINTS: Final = 300.0
_WARM_UP_STEPS: Final = 40


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands: what a progress bar shows."""

    stage: str
    step: int
    fraction: float
    loss: float
    steps_per_second: float
    seconds_left: float


@final
@dataclass(frozen=True, slots=True)
class StageSettings:
    """What every stage is told: where, for how long, and from which seed.

    Args:
        work_dir: Where checkpoints live.
        minutes: Time budget over all resumptions.
        device: Where to train.
        seed: Of batches and noise.
        resume: Whether to go on from a checkpoint.
        report: Called now and then with a `Progress`.
    """

    work_dir: Path
    minutes: float = 0.0
    device: str = "cpu"
    seed: int = 0
    resume: bool = True
    report: Callable[[Progress], None] = lambda progress: None


@final
class Run:
    """A training loop's clock, optimizer, moving average and checkpoint.

    Iterate it for the share of the budget spent so far, 0 to 1; call `update` once per turn. A
    keyboard interrupt saves before it goes on its way.

    Args:
        stage: Its name, also the checkpoint's.
        network: What is trained.
        settings: Where, for how long, and whether to go on from a checkpoint.
        learning_rate: At the top of the schedule.
        rate_times_inputs: Bound on the rate of a tensor times the inputs that one output sums.
        ema: Decay of the moving average once it has warmed up.
    """

    def __init__(
        self,
        stage: str,
        network: nn.Module,
        settings: StageSettings,
        *,
        learning_rate: float,
        rate_times_inputs: float = 0.3,
        ema: float = 0.998,
    ) -> None:
        self.stage = stage
        self.network = network
        self.path = settings.work_dir / f"{stage}.checkpoint"
        self.budget = 60.0 * settings.minutes
        self.ema = ema
        self.report = settings.report
        self.step = 0
        self.seconds = 0.0
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p], "top": _top_rate(p, learning_rate, rate_times_inputs)}
                for p in network.parameters()
                if p.requires_grad
            ],
            lr=learning_rate,
            betas=(0.9, 0.99),
            weight_decay=1e-4,
        )
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._recent: list[float] = []
        if settings.resume and self.path.exists():
            self._load()

    @property
    def fraction(self) -> float:
        """Share of the budget spent."""
        return min(1.0, self.seconds / self.budget) if self.budget > 0 else 1.0

    def __iter__(self) -> Iterator[float]:
        started = last_report = last_save = time.monotonic()
        first = self.step
        before = self.seconds
        try:
            while self.fraction < 1.0:
                for group in self.optimizer.param_groups:
                    group["lr"] = group["top"] * self._scheduled()
                yield self.fraction
                now = time.monotonic()
                self.seconds = before + now - started
                if now - last_report > 10.0:
                    last_report = now
                    rate = (self.step - first) / (now - started)
                    left = max(0.0, self.budget - self.seconds)
                    mean = sum(self._recent) / max(1, len(self._recent))
                    self._recent.clear()
                    self.report(Progress(self.stage, self.step, self.fraction, mean, rate, left))
                if now - last_save > _SECONDS_BETWEEN_CHECKPOINTS:
                    last_save = now
                    self.save()
        finally:
            if self.step > first or not self.path.exists():
                self.save()

    def update(self, loss: torch.Tensor) -> None:
        """One optimizer step; a loss that is not finite is skipped, not learned."""
        self.optimizer.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self._recent.append(value)
        self.step += 1
        decay = min(self.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, weight in self.network.state_dict().items():
                self.average[key].lerp_(weight, 1.0 - decay)

    def averaged(self) -> nn.Module:
        """The network with its averaged weights, in evaluation mode."""
        self.network.load_state_dict(self.average)
        return self.network.eval()

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with replacing(self.path) as partial:
            torch.save(state, partial)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        self.network.load_state_dict(state["network"])
        tops = [group["top"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, top in zip(self.optimizer.param_groups, tops, strict=True):
            group["top"] = top  # the rates are those of this call, not of the one that saved
        self.average = state["average"]
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _scheduled(self) -> float:
        warm_up = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        return warm_up * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.fraction)))


def _top_rate(parameter: nn.Parameter, learning_rate: float, rate_times_inputs: float) -> float:
    """The learning rate of one tensor at the top of the schedule.

    AdamW moves every weight alike, and neighbouring voxels are alike: what an output changes by in
    one step grows with the number of inputs that are summed. Hence a bound on rate x inputs.
    """
    inputs = parameter[0].numel() if parameter.ndim > 1 else 1
    return min(learning_rate, rate_times_inputs / inputs)
