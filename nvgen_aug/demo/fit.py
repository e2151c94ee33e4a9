"""Arm: one training run of the demo's segmenter, with everything that was measured on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from typing import final

import torch
from monai.data import DataLoader
from monai.losses import DiceCELoss
from monai.metrics import compute_dice
from monai.networks.nets import UNet
from monai.networks.utils import one_hot
from monai.transforms import Compose
from monai.transforms import RandAffined
from monai.transforms import RandFlipd
from monai.transforms import RandScaleIntensityd

from ..data.synthetic_real import SyntheticRealDataset
from ..provenance import Provenance
from .talk import Talk
from .task import Task

KEYS = ("image", "label")


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """What both runs have in common.

    Args:
        epochs: How often both are validated.
        steps_per_epoch: Optimizer steps of an epoch.
        batch_size: Whole volumes in a step.
        workers: Loader processes; 0 loads in the training process.
        seed: Where weights, order and augmentation come from.
        device: Where the segmenter trains.
        learning_rate: Greatest rate of a cosine that ends near zero.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int = 2
    workers: int = 1
    seed: int = 0
    device: str = "cpu"
    learning_rate: float = 1e-2

    @property
    def steps(self) -> int:
        """Optimizer steps of one run."""
        return self.epochs * self.steps_per_epoch

    @property
    def epoch_length(self) -> int:
        """Volumes of an epoch."""
        return self.steps_per_epoch * self.batch_size


@final
@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to.

    Args:
        loss: Mean loss of its steps.
        dice: Mean Dice on the validation volumes for each class; `None` where no
            volume has the class.
        samples: Volumes trained on.
        synthetic: How many of them were synthetic.
        asked: How many were asked for: the share times the samples.
        seconds: Time of training, validation left out.
        waiting: Part of it spent waiting for the next batch.
    """

    loss: float
    dice: Mapping[str, float | None]
    samples: int
    synthetic: int
    asked: float
    seconds: float
    waiting: float

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that have a score."""
        scores = [score for score in self.dice.values() if score is not None]
        return sum(scores) / len(scores) if scores else 0.0


@final
@dataclass(frozen=True, slots=True)
class Arm:
    """One training run.

    Args:
        name: Such as `"real only"`.
        ratio: Asked share of synthetic volumes.
        losses: Loss of each optimizer step.
        epochs: One entry an epoch.
        real_order: Case of each real draw, in order; the shorter run's is the
            beginning of the longer one's.
        volumes: Uid of each synthetic draw, in order.
    """

    name: str
    ratio: Fraction
    losses: tuple[float, ...]
    epochs: tuple[Epoch, ...]
    real_order: tuple[str, ...]
    volumes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps made."""
        return len(self.losses)

    @property
    def seconds(self) -> float:
        """Time of training, validation left out."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def waiting(self) -> float:
        """Part of it spent waiting for batches."""
        return sum(epoch.waiting for epoch in self.epochs)

    @property
    def seconds_per_step(self) -> float:
        """Time of a step without the waiting."""
        return (self.seconds - self.waiting) / max(1, self.steps)


def segmenter(task: Task, seed: int) -> UNet:
    """A small MONAI UNet; one seed gives the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=len(task.names) + 1,
            channels=(8, 16, 32, 64),
            strides=(2, 2, 2),
            num_res_units=0,
        )


def augmentation() -> Compose:
    """Light, and the same for real and synthetic volumes."""
    return Compose(
        [
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandAffined(
                KEYS,
                prob=0.3,
                rotate_range=(0.12, 0.12, 0.12),
                scale_range=(0.08, 0.08, 0.08),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
        ]
    )


def seconds_of_a_step(task: Task, schedule: Schedule, steps: int = 2) -> float:
    """Time of an optimizer step on empty volumes, for an estimate; trains nothing that is kept."""
    learner = _Learner(task, schedule)
    shape = (schedule.batch_size, 1, *task.size)
    image, label = torch.zeros(shape), torch.zeros(shape)
    learner.step(image, label)
    begin = time.perf_counter()
    for _ in range(steps):
        learner.step(image, label)
    return (time.perf_counter() - begin) / steps


def fit(
    name: str,
    train: SyntheticRealDataset,
    validation: Sequence[Mapping[str, Any]],
    task: Task,
    schedule: Schedule,
    talk: Talk,
) -> Arm:
    """Train from the seed's weights for the schedule's steps, and validate after each epoch.

    Args:
        name: Name of the run.
        train: What to train on.
        validation: Items with `image` and `label`.
        task: What is learnt.
        schedule: How long, with what.
        talk: Who hears of the progress.
    """
    learner = _Learner(task, schedule)
    loader = DataLoader(
        train,
        batch_size=schedule.batch_size,
        sampler=train.sampler(batch_size=schedule.batch_size),
        num_workers=schedule.workers,
        persistent_workers=schedule.workers > 0,
    )
    losses: list[float] = []
    epochs: list[Epoch] = []
    real_order: list[str] = []
    volumes: list[str] = []
    with talk.track(name, schedule.steps) as advance:
        for number in range(schedule.epochs):
            train.set_epoch(number)
            first, waiting, begin = len(losses), 0.0, time.perf_counter()
            synthetic = samples = 0
            for waited, batch in _timed(loader):
                waiting += waited
                losses.append(learner.step(batch["image"], batch["label"]))
                for text in batch["provenance"]:
                    record = Provenance.from_json(text)
                    (volumes if record.source == "synthetic" else real_order).append(record.uid)
                synthetic += int(torch.as_tensor(batch["synthetic"]).sum())
                samples += len(batch["provenance"])
                dice = f" · Dice {epochs[-1].mean_dice:.2f}" if epochs else ""
                advance(f"loss {losses[-1]:.2f}{dice}")
            epochs.append(
                Epoch(
                    loss=sum(losses[first:]) / max(1, len(losses) - first),
                    seconds=time.perf_counter() - begin,
                    waiting=waiting,
                    samples=samples,
                    synthetic=synthetic,
                    asked=float(train.ratio * samples),
                    dice=learner.dice(validation),
                )
            )
    return Arm(name, train.ratio, tuple(losses), tuple(epochs), tuple(real_order), tuple(volumes))


def _timed(loader: DataLoader) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each batch with the seconds that the loop waited for it."""
    begin = time.perf_counter()
    for batch in loader:
        yield time.perf_counter() - begin, batch
        begin = time.perf_counter()


class _Learner:
    """Segmenter, loss and optimizer."""

    def __init__(self, task: Task, schedule: Schedule) -> None:
        self.task = task
        self.device = torch.device(schedule.device)
        self.network = segmenter(task, schedule.seed).to(self.device)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), schedule.learning_rate)
        self.rate = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, schedule.steps, eta_min=schedule.learning_rate / 50
        )

    def step(self, image: torch.Tensor, label: torch.Tensor) -> float:
        """One optimizer step; gives the loss before it."""
        self.network.train()
        loss = self.loss(self.network(_plain(image, self.device)), _plain(label, self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.rate.step()
        return float(loss.detach())

    @torch.inference_mode()
    def dice(self, validation: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Mean Dice by class over whole volumes; volumes without the class do not count."""
        self.network.eval()
        classes = len(self.task.names) + 1
        scores = []
        for item in validation:
            scored = self.network(_plain(item["image"][None], self.device))
            found = one_hot(scored.argmax(dim=1, keepdim=True), classes)
            truth = one_hot(_plain(item["label"][None], self.device), classes)
            scores.append(compute_dice(found, truth, include_background=False))
        means = torch.cat(scores).nanmean(dim=0)
        return {
            name: None if bool(mean.isnan()) else float(mean)
            for name, mean in zip(self.task.names, means, strict=True)
        }


def _plain(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    # The network gains nothing from affines, and MetaTensors cost time in every operation.
    plain: torch.Tensor = getattr(tensor, "as_tensor", lambda: tensor)()
    return plain.to(device)
