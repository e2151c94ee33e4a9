"""Reuse: which volume each synthetic draw of a run uses, whatever the share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from .seeds import derived_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 64


@final
@dataclass(frozen=True, slots=True)
class Reuse:
    """Every volume is used `max_reuse` times, and never twice in one global batch.

    Volumes come in windows, which are used up one after another. The first use of
    them is shuffled within blocks of 64, by the seed alone, so after any number of
    draws the volumes that were used are the first ones of one and the same
    sequence: of two runs with the same seed, one uses a subset of the other's, at
    any share and batch size. A window depends on the global batch, never on the
    share; at one batch size, the k-th draw has the same volume under every share.

    Args:
        seed: Where the order comes from.
        max_reuse: Uses of each volume.
        global_batch: Samples of a batch on all ranks together.
    """

    seed: int
    max_reuse: int
    global_batch: int

    @property
    def window(self) -> int:
        """Volumes that are shuffled together: 64, doubled up to twice the global batch."""
        size = BLOCK
        while size < 2 * self.global_batch:
            size *= 2
        return size

    def volume_of(self, draw: int, stratum: str = "") -> tuple[int, int]:
        """The volume of a synthetic draw, and how often it was used before.

        Args:
            draw: Number of the draw in the run, from 0; of its stratum, if there are any.
            stratum: The stratum; each has volumes of its own.
        """
        window = self.window
        number, place = divmod(draw, window * self.max_reuse)
        use, column = divmod(place, window)
        if use == 0:
            block, column = divmod(number * window + column, BLOCK)
            return block * BLOCK + int(_block(self.seed, stratum, block)[column]), 0
        order = _again(self.seed, stratum, number, window, self.max_reuse)
        return number * window + int(order[use, column]), use

    def distinct(self, draws: int) -> int:
        """How many different volumes the first draws of a run, or of a stratum, use."""
        whole, rest = divmod(draws, self.window * self.max_reuse)
        return whole * self.window + min(rest, self.window)


@lru_cache(maxsize=64)
def _block(seed: int, stratum: str, number: int) -> NDArray[np.int64]:
    """The order in which the volumes of a block are used for the first time."""
    words = (stratum,) if stratum else ()
    return np.random.default_rng(derived_seed("window", seed, number, *words)).permutation(BLOCK)


@lru_cache(maxsize=16)
def _again(seed: int, stratum: str, number: int, size: int, uses: int) -> NDArray[np.int64]:
    """`[uses, size]`: one permutation for each use, equal volumes ≥ size / 2 draws apart.

    A batch of up to half a window may span the end of one use and the begin of the
    next; so the first of a use are taken from volumes that are not among the last
    of the use before.
    """
    blocks = range(number * size // BLOCK, (number + 1) * size // BLOCK)
    first = [_block(seed, stratum, block) + BLOCK * place for place, block in enumerate(blocks)]
    rng = np.random.default_rng(derived_seed("again", seed, stratum, number, size))
    rows = [np.concatenate(first)]
    near = size // 2 - 1
    for _ in range(1, uses):
        row = rng.permutation(size)
        is_far = ~np.isin(row, rows[-1][size - near :])
        head = np.flatnonzero(is_far)[:near]
        rest = np.setdiff1d(np.arange(size), head)
        rows.append(np.concatenate((row[head], row[rest])))
    return np.stack(rows)
