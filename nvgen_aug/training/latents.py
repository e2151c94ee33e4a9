"""Latents stage: what the flow learns from, encoded once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..generators.maisi.networks import Autoencoder
from ..generators.maisi.piecewise.codec import Codec
from ..whole_file import replacing
from .pool import Pool
from .run import Progress
from .run import StageSettings


@final
@dataclass(frozen=True, slots=True)
class Latents:
    """Latent means of a pool, of each image and of its mirror image.

    Attributes:
        means: `[N, 2, C, x, y, z]` float16; index 1 of the second axis is mirrored along x.
        scale_factor: One over their standard deviation.
    """

    means: NDArray[np.float16]
    scale_factor: float


@torch.inference_mode()
def encode_pool(
    network: Autoencoder,
    pool: Pool,
    settings: StageSettings,
    *,
    trained: int,
) -> Latents:
    """Encode a whole pool, or read what an earlier run encoded.

    Args:
        network: The autoencoder.
        pool: What to encode.
        settings: Where the latents are kept, and whether to read what is there.
        trained: Steps of the autoencoder's training: latents of one that had more or fewer are
            not taken for its own.
    """
    path = settings.work_dir / f"latents-{trained}.npy"
    if settings.resume and path.exists():
        means = np.load(path)
        if len(means) == len(pool):
            return Latents(means, float(1.0 / means.astype(np.float32).std()))
    network.to(settings.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    codec = Codec(network)
    rows = []
    for index in range(len(pool)):
        image = pool.images[index].astype(np.float32)
        both = torch.from_numpy(np.stack([image, image[::-1]]))[:, None].to(settings.device)
        mean, _ = codec.encode(both)
        rows.append(mean.cpu().to(torch.float16).numpy())
        if index % 50 == 49:
            fraction = (index + 1) / len(pool)
            settings.report(Progress("latents", index + 1, fraction, 0.0, 0.0, 0.0))
    # In one order of memory, whether just encoded or read: a sum depends on it.
    means = np.ascontiguousarray(np.stack(rows))
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, means)
    return Latents(means, float(1.0 / means.astype(np.float32).std()))
