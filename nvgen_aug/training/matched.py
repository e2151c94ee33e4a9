"""Matched: brains in every contrast, encoded once, from which translation is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..generators.maisi.networks import Autoencoder
from ..generators.maisi.placement import use_onednn
from ..whole_file import replacing
from .run import Progress
from .run import StageSettings
from .stand_ins import StandIns

# A pair of contrasts is drawn anew for each step, and noise and time besides: it takes far fewer
# brains than learning to draw them did.
SUBJECTS: Final = 120


@final
@dataclass(frozen=True, slots=True)
class Matched:
    """Latent means and masks of brains, each in all contrasts.

    Attributes:
        means: `[N, M, C, x, y, z]` float16, M contrasts in the order of `MODALITIES`.
        labels: `[N, X, Y, Z]` uint8.
    """

    means: NDArray[np.float16]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@torch.inference_mode()
def encode_matched(
    network: Autoencoder,
    stand_ins: StandIns,
    settings: StageSettings,
    *,
    trained: str,
    subjects: int = SUBJECTS,
) -> Matched:
    """Encode the first brains of a supply, or read what an earlier run encoded.

    Args:
        network: The autoencoder.
        stand_ins: Where brains come from.
        settings: Where the latents are kept, and whether to read what is there.
        trained: What tells this autoencoder from others, whose latents are not taken for its own.
        subjects: How many brains.
    """
    path = settings.work_dir / f"matched-{trained}.npz"
    if settings.resume and path.exists():
        with np.load(path) as stored:
            if len(stored["labels"]) == subjects:
                return Matched(stored["means"], stored["labels"])
    network.to(settings.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    if settings.device == "cpu":
        use_onednn(network)
    means, labels = [], []
    for index in range(subjects):
        scans = stand_ins.matched(index)
        rows = []
        for scan in scans:
            image = torch.from_numpy(scan.image)[None, None].to(settings.device)
            mean, _ = network.encode(image.contiguous(memory_format=torch.channels_last_3d))
            rows.append(mean[0].to("cpu", torch.float16).contiguous().numpy())
        means.append(np.stack(rows))
        labels.append(scans[0].label)
        if index % 10 == 9:
            settings.report(Progress("matched", index + 1, (index + 1) / subjects, 0.0, 0.0, 0.0))
    made = Matched(np.stack(means), np.stack(labels))
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, means=made.means, labels=made.labels)
    return made
