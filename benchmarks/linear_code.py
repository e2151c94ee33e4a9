"""LinearCode: the best linear code of small blocks, which an autoencoder must beat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from typing import final

import numpy as np
from numpy.typing import NDArray

EDGE = 4


@final
@dataclass(frozen=True, slots=True)
class LinearCode:
    """Principal components of blocks of 4x4x4 voxels.

    Attributes:
        mean: `[64]` float64.
        components: `[64, C]` float64, orthonormal columns, the largest variance first.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]

    @classmethod
    def fit(
        cls, images: Iterable[NDArray[np.float32]], masks: Iterable[NDArray[np.bool_]], count: int
    ) -> LinearCode:
        """The best code with `count` coefficients for the blocks that touch a mask."""
        blocks = np.concatenate(
            [
                _blocks(image)[_blocks(mask).any(axis=1)]
                for image, mask in zip(images, masks, strict=True)
            ]
        ).astype(np.float64)
        _, vectors = np.linalg.eigh(np.cov(blocks.T))
        return cls(blocks.mean(axis=0), vectors[:, ::-1][:, :count])

    def restore(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode and decode an image `[X, Y, Z]` whose edges are multiples of 4."""
        centred = _blocks(image) - self.mean
        restored = centred @ self.components @ self.components.T + self.mean
        x, y, z = (n // EDGE for n in image.shape)
        cells = restored.reshape(x, y, z, EDGE, EDGE, EDGE).transpose(0, 3, 1, 4, 2, 5)
        whole: NDArray[np.float32] = cells.reshape(image.shape).astype(np.float32)
        return whole


def psnr(
    image: NDArray[np.float32], restored: NDArray[np.float32], mask: NDArray[np.bool_]
) -> float:
    """Peak signal-to-noise ratio inside `mask` in dB; the peak is the image's 99.9th percentile."""
    peak = float(np.percentile(image[mask], 99.9))
    error = float(np.square(image - restored, dtype=np.float64)[mask].mean())
    return 10.0 * float(np.log10(peak**2 / error))


def _blocks(image: NDArray[Any]) -> NDArray[Any]:
    x, y, z = (n // EDGE for n in image.shape)
    cells = image.reshape(x, EDGE, y, EDGE, z, EDGE).transpose(0, 2, 4, 1, 3, 5)
    return cells.reshape(-1, EDGE**3)
