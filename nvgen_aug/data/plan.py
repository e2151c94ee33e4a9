"""Plan: which sample stands where in a run, as a pure function of seed, epoch and global batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from operator import index as as_index
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from ..errors import DataError
from ..mix import Mix
from ..schedule import Constant
from ..schedule import Schedule
from ..schedule import as_schedule
from ..share import Share
from .quota_run import Batch
from .quota_run import QuotaRun
from .quota_run import Quotas
from .quota_run import Standing
from .reuse import Reuse
from .seeds import derived_seed
from .seeds import volume_seed_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True)
class SampleKey:
    """One planned sample. All chance of a run ends here; workers only execute.

    It is not a sequence, because a MONAI dataset takes a sequence for a subset.

    Args:
        epoch: Epoch of the run.
        position: Place in the epoch, counted over all ranks.
        is_synthetic: Whether a synthetic volume stands here.
        index: Case of the real dataset, or number of the synthetic volume.
        reuse: How often the plan used this volume before; 0 for a real case.
        volume_seed: What the synthetic volume is drawn from, shared by all its
            uses; 0 for a real case.
        view_seed: What crop and augmentation are drawn from, new for each draw.
        stratum: Which kind of volume, or of repeated real case, stands here; empty
            for the real sequence, and where there are no strata.
        is_down: Whether a real case stands in for the volume, because the generator of some
            rank is known to be down.
    """

    epoch: int
    position: int
    is_synthetic: bool
    index: int
    reuse: int
    volume_seed: int
    view_seed: int
    stratum: str = ""
    is_down: bool = False


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """The samples of a run for one layout of batches and ranks.

    Counts run over the whole training, not over an epoch: the k-th real draw is
    the same case whatever the ratio, the batch size and the number of ranks, and
    so is the chance it is seen with.

    Each rank draws `samples_per_rank` = ⌈epoch_length / world_size⌉ samples an
    epoch, so all ranks make equally many steps; where that does not divide, the
    run draws up to `world_size − 1` more samples an epoch than asked, and they
    are planned like all others. With `drop_last` it draws the full global batches
    alone. A sample that is dropped is not used up: the next epoch begins with it.

    Args:
        seed: Where the order comes from.
        ratio: Share of synthetic samples, or a schedule of it.
        epoch_length: Samples of an epoch, all ranks together.
        real_length: Cases of the real dataset.
        volume_seed: Seed of the synthetic dataset.
        max_reuse: Uses of each synthetic volume.
        batch_size: Samples of a batch on one rank.
        world_size: Number of ranks.
        drop_last: Whether an epoch ends with its last full batch on all ranks.
        quotas: What the draws are to show; `None` where all are alike.

    Raises:
        DataError: if `batch_size` or `world_size` is not a positive integer, or if
            `drop_last` leaves nothing.
        RatioError: for a share that is not in [0, 1].
    """

    seed: int
    ratio: Schedule | Share
    epoch_length: int
    real_length: int
    volume_seed: int = 0
    max_reuse: int = 1
    batch_size: int = 1
    world_size: int = 1
    drop_last: bool = False
    quotas: Quotas | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "world_size"):
            object.__setattr__(self, name, as_integer(name, getattr(self, name), 1))
        object.__setattr__(self, "ratio", as_schedule(self.ratio))
        if self.drop_last and self.epoch_length < self.global_batch:
            msg = (
                f"with drop_last an epoch of {self.epoch_length} samples has no full batch of "
                f"{self.batch_size} on {self.world_size} ranks; make the batch smaller or "
                "`epoch_length` longer, or pass drop_last=False"
            )
            raise DataError(msg)

    @property
    def schedule(self) -> Schedule:
        """Share of synthetic samples at each time of the run."""
        assert isinstance(self.ratio, Schedule), "made one by __post_init__"
        return self.ratio

    @property
    def global_batch(self) -> int:
        """Samples of a full batch on all ranks together."""
        return self.batch_size * self.world_size

    @property
    def samples_per_rank(self) -> int:
        """Samples of one rank in one epoch."""
        if self.drop_last:
            return self.epoch_length // self.global_batch * self.batch_size
        return -(-self.epoch_length // self.world_size)

    @property
    def batches(self) -> int:
        """Batches of one rank in one epoch; the last may be smaller, but with `drop_last`."""
        return -(-self.samples_per_rank // self.batch_size)

    @property
    def mix(self) -> Mix:
        """Counts of synthetic samples."""
        return Mix(self.schedule, self.batch_size, self.samples_per_rank, self.world_size)

    @property
    def reuse(self) -> Reuse:
        """Which volume each synthetic draw uses."""
        return Reuse(self.seed, self.max_reuse, self.global_batch)

    @property
    def fills_with_real(self) -> bool:
        """Whether the draws repeat real cases, so that no volume is made at all."""
        return self.quotas is not None and self.quotas.fills_with_real

    def standing(self, epoch: int) -> Standing:
        """Where strata and quotas stand before an epoch; without quotas all is one stratum."""
        if self.quotas is None:
            return Standing({"": self.mix.synthetic_before(epoch)}, ())
        return _quota_run(self).before(epoch)

    def distinct_volumes(self, epoch: int) -> int:
        """How many different volumes the draws before an epoch use."""
        if self.fills_with_real:
            return 0
        return sum(self.reuse.distinct(draws) for draws in self.standing(epoch).numbers.values())

    def synthetic_in_epoch(self, epoch: int) -> int:
        """Synthetic samples of an epoch, all ranks together."""
        before = self.mix.synthetic_before
        return before(epoch + 1) - before(epoch)

    def asked_in_epoch(self, epoch: int) -> Fraction:
        """Synthetic samples that the share asks for in an epoch, all ranks together."""
        asked = self.mix.asked
        return self.world_size * (asked(epoch + 1) - asked(epoch))

    def samples_before(self, epoch: int, batch: int = 0) -> int:
        """Samples of the run before a global batch, all ranks together."""
        done = min(batch * self.batch_size, self.samples_per_rank)
        return (epoch * self.samples_per_rank + done) * self.world_size

    def keys(self, epoch: int, batch: int, rank: int = 0) -> list[SampleKey]:
        """The samples of one batch of one rank, in order.

        Args:
            epoch: Epoch of the run, from 0.
            batch: Batch of the epoch, from 0.
            rank: Rank, from 0.
        """
        first = batch * self.batch_size
        last = min(first + self.batch_size, self.samples_per_rank)
        size = last - first
        mix = self.mix
        synthetic = mix.synthetic_before(epoch, batch)
        after = mix.synthetic_before(epoch, batch + 1)
        counts = [mix.of_rank(after, r) - mix.of_rank(synthetic, r) for r in range(rank + 1)]
        begin = synthetic
        # Draws before this global batch, then those of the ranks before this one.
        real = self.samples_before(epoch, batch) - synthetic
        synthetic += sum(counts[:rank])
        real += rank * size - sum(counts[:rank])
        is_synthetic = np.arange(size) < counts[rank]
        order = np.random.default_rng(derived_seed("order", self.seed, epoch, batch, rank))
        order.shuffle(is_synthetic)
        keys = []
        for slot, chosen in enumerate(is_synthetic.tolist()):
            position = first * self.world_size + rank * size + slot
            if chosen:
                key = self._drawn_key(epoch, batch, position, synthetic, synthetic - begin)
                keys.append(key)
                synthetic += 1
            else:
                keys.append(self._real_key(epoch, position, real))
                real += 1
        return keys

    def key_at(self, epoch: int, index: int) -> SampleKey:
        """The sample at a place of an epoch, for a plan of one rank and batches of one.

        Args:
            epoch: Epoch of the run, from 0.
            index: Place in the epoch; a negative one counts from the end.

        Raises:
            TypeError: if it is no integer.
            IndexError: if the epoch has no such place.
        """
        try:
            position = as_index(index)
        except TypeError as error:
            msg = f"an index must be a SampleKey or an integer, got {type(index).__name__}"
            raise TypeError(msg) from error
        length = self.epoch_length
        if not -length <= position < length:
            msg = f"position {position} of an epoch of {length} samples"
            raise IndexError(msg)
        return self.keys(epoch, position % length)[0]

    def epoch(self, epoch: int, rank: int = 0) -> Iterator[SampleKey]:
        """All samples of one rank in one epoch."""
        for batch in range(self.batches):
            yield from self.keys(epoch, batch, rank)

    def case_of(self, draw: int) -> int:
        """The case of a real draw of the run."""
        number, place = divmod(draw, self.real_length)
        return int(_permutation(self.seed, number, self.real_length)[place])

    def _drawn_key(self, epoch: int, batch: int, position: int, draw: int, place: int) -> SampleKey:
        """The key of a draw of the run, which is number `place` of its global batch."""
        stratum, number = "", draw
        if self.quotas is not None:
            run = _quota_run(self)
            drawn = run.draws(epoch * self.batches + batch)[place]
            stratum, number = drawn.stratum, drawn.number
            if self.fills_with_real:
                return self._real_key(epoch, position, draw, run.case_of(drawn), stratum)
        volume, reuse = self.reuse.volume_of(number, stratum)
        return SampleKey(
            epoch=epoch,
            position=position,
            is_synthetic=True,
            index=volume,
            reuse=reuse,
            volume_seed=volume_seed_of(self.volume_seed, volume, stratum),
            view_seed=derived_seed("synthetic view", self.seed, draw),
            stratum=stratum,
        )

    def _real_key(
        self, epoch: int, position: int, draw: int, case: int | None = None, stratum: str = ""
    ) -> SampleKey:
        """The key of a real draw of the run; with a `case`, of one repeated in a draw's place."""
        view = "real view" if case is None else "repeated view"
        return SampleKey(
            epoch=epoch,
            position=position,
            is_synthetic=False,
            index=self.case_of(draw) if case is None else case,
            reuse=0,
            volume_seed=0,
            view_seed=derived_seed(view, self.seed, draw),
            stratum=stratum,
        )


def as_integer(name: str, value: Any, least: int) -> int:
    """The value as an integer, or `DataError` if it is none or below `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        msg = f"{name} must be an integer ≥ {least}, got {value!r}"
        raise DataError(msg)
    return int(value)


def epoch_length_for(ratio: Schedule | Share, real_length: int, real_passes: Share = 1) -> int:
    """The fewest samples of an epoch in which the real cases pass so often.

    Args:
        ratio: Share of synthetic samples.
        real_length: Real cases.
        real_passes: How often an epoch shows each of them; 1, a larger number, or a
            fraction. A float is read as the decimal it prints as.

    Raises:
        DataError: for a share of 1, or one that changes: an epoch's length must then
            be given; for passes that are no positive number.
    """
    schedule = as_schedule(ratio)
    is_number = isinstance(real_passes, (int, float, Fraction, Decimal))
    if not is_number or isinstance(real_passes, bool) or not 0 < real_passes < math.inf:
        msg = f"real_passes must be a number > 0, got {real_passes!r}"
        raise DataError(msg)
    if not isinstance(schedule, Constant):
        msg = (
            f"under the schedule {schedule} no one length of an epoch shows every real case; "
            f"pass `epoch_length=`, such as {max(1, real_length)}"
        )
        raise DataError(msg)
    if schedule.most == 1:
        msg = "ratio 1 has no real case to count an epoch by; pass `epoch_length=`"
        raise DataError(msg)
    return math.ceil(Fraction(str(real_passes)) * real_length / (1 - schedule.most))


@lru_cache(maxsize=8)
def _quota_run(plan: Plan) -> QuotaRun:
    assert plan.quotas is not None

    def batch(number: int) -> Batch:
        epoch, place = divmod(number, plan.batches)
        begin, end = (plan.samples_before(epoch, place + step) for step in (0, 1))
        drawn, after = (plan.mix.synthetic_before(epoch, place + step) for step in (0, 1))
        time = epoch if plan.schedule.unit == "epochs" else number
        cases = tuple(plan.case_of(draw) for draw in range(begin - drawn, end - after))
        return Batch(end - begin, after - drawn, plan.schedule.share_at(time), cases)

    return QuotaRun(plan.quotas, plan.seed, plan.batches, batch)


@lru_cache(maxsize=8)
def _permutation(seed: int, number: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng(derived_seed("real", seed, number)).permutation(length)
