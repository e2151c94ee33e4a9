"""StatisticsMode: over which part of a volume the decoder's group norms take their statistics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError

_TILE = (80, 80, 80)
_OVERLAP = 0.4


@final
@dataclass(frozen=True, slots=True)
class StatisticsMode:
    """One of three: `full`, the volume's own; `tile`, those of each tile; `frozen`, given ones.

    Attributes:
        kind: The word of these three.
        tile: Latent voxels of a tile along x, y and z.
        overlap: Of neighbouring tiles, as a part of their edge.
        frozen: float32 `[norms, groups, 2]`, mean and variance for every volume.
    """

    kind: str = "full"
    tile: tuple[int, int, int] = _TILE
    overlap: float = _OVERLAP
    frozen: NDArray[np.float32] | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str) -> StatisticsMode:
        """The mode that a text names.

        Args:
            text: `"full"`, `"tile"` or `"tile:64,64,48@0.4"`, latent voxels and overlap, or
                `"frozen:"` and the path of an `.npy` file as `pooled` makes its array.

        Raises:
            SpecError: if it names none.
        """
        kind, _, rest = text.partition(":")
        if text == "full":
            return cls()
        if kind == "tile":
            return _tile(text, rest)
        if kind == "frozen" and rest:
            return cls("frozen", frozen=_read(rest))
        msg = (
            f"statistics must be `full`, `tile`, `tile:64,64,48@0.4` or `frozen:FILE.npy`, "
            f"got {text!r}"
        )
        raise SpecError(msg)

    def __str__(self) -> str:
        """As keys of volumes have it: what decides on voxels, and nothing else."""
        if self.kind == "tile":
            return f"tile:{','.join(map(str, self.tile))}@{self.overlap}"
        if self.frozen is not None:
            return f"frozen:{hashlib.sha256(self.frozen.tobytes()).hexdigest()[:16]}"
        return self.kind


def pooled(statistics: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Statistics of a population, for `frozen`, from those of volumes of one size.

    Args:
        statistics: Of each volume, `[norms, groups, 2]`, as `Latent.statistics` has them.

    Returns:
        float32 `[norms, groups, 2]`; the variance includes that of the volumes' means.
    """
    rows = np.stack(statistics).astype(np.float64)
    variance = rows[..., 1].mean(0) + rows[..., 0].var(0)
    return np.stack([rows[..., 0].mean(0), variance], axis=-1).astype(np.float32)


def _tile(text: str, rest: str) -> StatisticsMode:
    if not rest:
        return StatisticsMode("tile")
    size, _, overlap = rest.partition("@")
    try:
        x, y, z = (int(n) for n in size.split(","))
        part = float(overlap) if overlap else _OVERLAP
    except ValueError as error:
        msg = f"a tile is written like `tile:64,64,48@0.4`, got {text!r}"
        raise SpecError(msg) from error
    if min(x, y, z) < 1 or not 0 <= part < 1:
        msg = f"tiles have edges of at least 1 and overlaps in [0, 1), got {text!r}"
        raise SpecError(msg)
    return StatisticsMode("tile", (x, y, z), part)


def _read(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    try:
        array = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"frozen statistics cannot be read from {path}: {error}; save an array with np.save"
        raise SpecError(msg) from error
    if array.ndim != 3 or array.shape[2] != 2:
        msg = f"frozen statistics must be [norms, groups, 2], got {list(array.shape)} in {path}"
        raise SpecError(msg)
    return np.ascontiguousarray(array, dtype=np.float32)
