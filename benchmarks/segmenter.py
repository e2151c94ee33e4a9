"""Segmenter: a judge of generated images that has only ever seen stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from numpy.typing import NDArray

from nvgen_aug.training.pool import Pool

CLASSES = 5


@final
class Segmenter:
    """A MONAI UNet for background, CSF, grey matter, white matter and lesion.

    Args:
        seed: Of its weights and of the order of its training.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = UNet(
                spatial_dims=3,
                in_channels=1,
                out_channels=CLASSES,
                channels=(16, 32, 64, 128),
                strides=(2, 2, 2),
                num_res_units=1,
            )
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def train(self, pool: Pool, steps: int, report: Callable[[int, float], object]) -> None:
        """AdamW on Dice and cross-entropy, two whole volumes a step, mirrored half the time."""
        self.network.train()
        loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
        optimizer = torch.optim.AdamW(self.network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for step in range(steps):
            indices = self.rng.integers(len(pool), size=2)
            mirrored = self.rng.integers(2, size=2)
            image = _stack(pool.images, indices, mirrored).float()
            label = _stack(pool.labels, indices, mirrored)
            loss = loss_of(self._scores(image), label.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report(step + 1, float(loss.detach()))

    @torch.inference_mode()
    def segment(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Labels `[X, Y, Z]` of an image `[X, Y, Z]` in network units."""
        self.network.eval()
        scores = self._scores(torch.from_numpy(image)[None, None])
        labels: NDArray[np.uint8] = scores[0].argmax(dim=0).to(torch.uint8).numpy()
        return labels

    def _scores(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(image.contiguous(memory_format=torch.channels_last_3d))
        return scores


def _stack(
    volumes: NDArray[np.generic], indices: NDArray[np.int64], mirrored: NDArray[np.int64]
) -> torch.Tensor:
    chosen = [volumes[i][::-1] if m else volumes[i] for i, m in zip(indices, mirrored, strict=True)]
    return torch.from_numpy(np.stack(chosen))[:, None]
