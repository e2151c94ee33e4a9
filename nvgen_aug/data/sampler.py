"""SyntheticRealSampler: hands the plan to a DataLoader, and says ahead what will be needed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import torch.distributed
from torch.utils.data.distributed import DistributedSampler

from ..errors import DataError
from ..errors import SourceError
from .plan import SampleKey
from .progress import configuration

if TYPE_CHECKING:
    from .synthetic_real import SyntheticRealDataset

NEW_VOLUMES_AHEAD = 8
BATCHES_AHEAD = 64


@final
class SyntheticRealSampler(DistributedSampler[SampleKey]):
    """Yields the planned keys of one rank; pass it as `sampler=` with the same batch size.

    It is a `DistributedSampler`, so that Lightning leaves it in place and calls
    its `set_epoch`. While it walks, it tells the source of the synthetic volumes
    which new ones come next; that never waits, and runs no thread.

    With `drop_last=True` in the loader alone, planned samples are thrown away; pass it
    here instead, and the plan is made of full batches.

    Args:
        dataset: What the keys are for.
        batch_size: Samples of a batch on one rank.
        num_replicas: Number of ranks; `None` asks `torch.distributed`, and is 1 without it.
        rank: This rank; `None` asks likewise.
        drop_last: End an epoch with its last full batch on all ranks.

    Raises:
        DataError: for a batch size or ranks that make no sense.
    """

    def __init__(
        self,
        dataset: SyntheticRealDataset,
        batch_size: int,
        num_replicas: int | None = None,
        rank: int | None = None,
        *,
        drop_last: bool = False,
    ) -> None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if num_replicas is None:
            num_replicas = torch.distributed.get_world_size() if is_distributed else 1
        if rank is None:
            rank = torch.distributed.get_rank() if is_distributed else 0
            if num_replicas > 1 and not is_distributed:
                msg = f"rank must be given with num_replicas={num_replicas}, got None"
                raise DataError(msg)
        self.plan = dataset.layout(batch_size, num_replicas, drop_last)
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < num_replicas:
            msg = f"rank must be an integer in [0, {num_replicas - 1}], got {rank!r}"
            raise DataError(msg)
        super().__init__(dataset, num_replicas, rank, shuffle=False, seed=dataset.seed)
        self.batch_size = batch_size
        self._volumes = dataset.stratified
        self._end = math.inf if dataset.epochs is None else dataset.epochs * self.plan.batches
        self._progress = dataset.progress
        self._configuration = configuration(self.plan, dataset.volumes)
        self._done = 0

    def __len__(self) -> int:
        return self.plan.samples_per_rank

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, for the dataset too; `train.set_epoch` does the same."""
        self._progress.set_epoch(epoch)
        self.epoch = epoch

    def __iter__(self) -> Iterator[SampleKey]:
        self._done = self._per_rank(self._progress.take_resume())
        return self._walk(self._progress.epoch, self._done)

    def state_dict(self) -> dict[str, Any]:
        """The place after the last key that was handed out: a few integers and texts, JSON.

        A loader with workers asks for keys ahead of training. `StatefulDataLoader`
        allows for that; with another loader use `train.checkpoint(batches_done)`.
        """
        return self._progress.state(self._done * self.plan.world_size, self._configuration)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: nothing is repeated, nothing skipped.

        Raises:
            DataError: if it was made with another configuration; with the difference.
        """
        self._progress.resume(state, self._configuration)
        self._done = self._per_rank(self._progress.resume_samples)

    def _per_rank(self, samples: int) -> int:
        if samples % self.plan.world_size or samples > len(self) * self.plan.world_size:
            msg = (
                f"a state of {samples} samples does not fit {self.plan.world_size} ranks of "
                f"{len(self)} samples; resume with the number of ranks it was made with"
            )
            raise DataError(msg)
        return samples // self.plan.world_size

    def _walk(self, epoch: int, done: int) -> Iterator[SampleKey]:
        first, skip = divmod(done, self.batch_size)
        announced: deque[int] = deque()
        ahead = epoch * self.plan.batches + first
        for batch in range(first, self.plan.batches):
            is_down = self._progress.is_down
            if not is_down:
                ahead = self._announce(epoch * self.plan.batches + batch, ahead, announced)
            for key in self.plan.keys(epoch, batch, self.rank)[skip:]:
                self._done += 1
                yield replace(key, is_down=True) if is_down and key.is_synthetic else key
            skip = 0

    def _announce(self, now: int, ahead: int, announced: deque[int]) -> int:
        """Say which new volumes come next, on from batch `ahead` of the run; the new `ahead`."""
        if self._volumes is None or not self.plan.schedule.most:
            return ahead
        while announced and announced[0] <= now:
            announced.popleft()
        keys: list[SampleKey] = []
        ahead = max(ahead, now)
        while len(announced) < NEW_VOLUMES_AHEAD and ahead < min(now + BATCHES_AHEAD, self._end):
            for key in self.plan.keys(*divmod(ahead, self.plan.batches), self.rank):
                # A volume that was used before is made already.
                if key.is_synthetic and key.reuse == 0:
                    keys.append(key)
                    announced.append(ahead)
            ahead += 1
        if keys:
            # Advice only: a source that is gone says so when a volume is fetched.
            with suppress(SourceError):
                self._volumes.announce(keys)
        return ahead
