"""Mix: which draws of a run are synthetic, as arithmetic on running counts.

What a schedule asks is summed over all batches of the run, as fractions. At
each batch boundary exactly the floor of that sum is synthetic, so the delivered
count is never a whole sample away from the asked one, however the share changes.
Chance decides only the order inside a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import final

from .schedule import Schedule


@final
@dataclass(frozen=True, slots=True)
class Mix:
    """The synthetic samples of a run, as cumulative counts at the batch boundaries.

    Args:
        schedule: Share of synthetic samples.
        batch_size: Samples of a batch on one rank.
        samples_per_rank: Samples of one rank in one epoch; its last batch may be smaller.
        world_size: Number of ranks that draw in step.
    """

    schedule: Schedule
    batch_size: int
    samples_per_rank: int
    world_size: int = 1

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.samples_per_rank // self.batch_size)

    def asked(self, epoch: int, batch: int = 0) -> Fraction:
        """Synthetic samples that are asked of one rank before this batch of this epoch.

        Args:
            epoch: Epoch of the run, from 0.
            batch: Batch of the epoch, from 0; `batches` is the end of the epoch.
        """
        done = min(batch * self.batch_size, self.samples_per_rank)
        if self.schedule.unit != "steps":
            whole = self.samples_per_rank * self.schedule.total(epoch)
            return whole + (done * self.schedule.share_at(epoch) if done else 0)
        # As if all batches were full, less what the last ones of the epochs lack.
        asked = self.batch_size * self.schedule.total(epoch * self.batches + batch)
        lack = self.batches * self.batch_size - self.samples_per_rank
        if lack:
            asked -= lack * _of_last_batches(self.schedule, self.batches, _capacity(epoch))[epoch]
        if done < batch * self.batch_size:
            asked -= lack * self.schedule.share_at((epoch + 1) * self.batches - 1)
        return asked

    def synthetic_before(self, epoch: int, batch: int = 0) -> int:
        """How many samples of the run are synthetic before this batch, all ranks together."""
        return math.floor(self.world_size * self.asked(epoch, batch))

    def of_rank(self, synthetic: int, rank: int) -> int:
        """How many of that many synthetic samples of the run are this rank's.

        They go to the ranks in turn. Hence every rank, too, is less than one sample
        away from its share, and its count never falls from one batch to the next.
        """
        return (synthetic + self.world_size - 1 - rank) // self.world_size


def _capacity(epochs: int) -> int:
    return 1 << max(6, epochs.bit_length())


@lru_cache(maxsize=8)
def _of_last_batches(schedule: Schedule, batches: int, epochs: int) -> tuple[Fraction, ...]:
    """Sums of the shares of the epochs' last batches, before each epoch 0 … `epochs`."""
    last = (schedule.share_at((epoch + 1) * batches - 1) for epoch in range(epochs))
    return tuple(accumulate(last, initial=Fraction(0)))
