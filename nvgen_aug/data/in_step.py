"""InStep: the batches of a loader on all ranks at once; where one cannot go on, all do the same.

Each rank loads its own part of the plan, so a generator that is down is seen by one of them
alone. Without a word between them the others would wait for it in their next collective
until that times out.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import final

import torch
import torch.distributed as dist

from ..errors import DataError
from ..errors import RankFailed
from ..errors import SourceError
from .plan import Plan
from .progress import Progress

FINE, DOWN, BROKEN = range(3)
TEXT_BYTES = 4000
LONGEST_SETTING = 40

_log = logging.getLogger(__name__)


@final
class InStep:
    """Iterates over a loader, and asks all ranks before each batch whether they have theirs.

        batches = train.in_step(loader)
        for epoch in range(300):
            train.set_epoch(epoch)
            for batch in batches: step(batch)

    If one rank cannot load its batch, all know it before anybody trains on theirs. With
    `on_failure="real"` and a generator that is down, real cases stand in on all ranks from
    that very batch to the end of the epoch; the next epoch asks the generator again. Else
    all ranks raise at that batch, and none is left waiting in a collective.

    It costs one collective of a few bytes for each batch, so all ranks walk through it
    together, as they do in training. Without `torch.distributed` there is one rank.

    Args:
        loader: Of this rank, with the sampler of the dataset.
        progress: Where the run stands, which the sampler follows.
        settings: What decides the order of samples, which has to be the same on all ranks.
        goes_on: Whether real cases may stand in.

    Raises:
        DataError: without a sampler, and while iterating, on all ranks, if their settings differ.
        RankFailed: while iterating, on all ranks, if one of them cannot go on; an error that
            is not of a source is raised as it is on the rank where it happened.
    """

    def __init__(
        self, loader: Any, progress: Progress, settings: Mapping[str, Any], *, goes_on: bool
    ) -> None:
        if progress.plan is None:
            msg = "ranks walk in step along a plan; make `train.sampler(batch_size)` first"
            raise DataError(msg)
        self._loader = loader
        self._progress = progress
        self._plan: Plan = progress.plan
        self._settings = {name: _short(str(value)) for name, value in settings.items()}
        self._goes_on = goes_on
        self._ranks = _Ranks()

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        progress = self._progress
        self._ranks.compare(self._settings | {"epoch": str(progress.epoch)})
        number = progress.batches_resumed(self._plan)
        progress.is_down = False  # a new epoch asks the generator again
        try:
            batches = iter(self._loader)
            while number < self._plan.batches:
                batch, error = _next(batches)
                if isinstance(error, StopIteration):
                    return
                word = FINE if error is None else BROKEN
                if isinstance(error, SourceError) and not progress.is_down:
                    word = DOWN
                worst, why = self._ranks.agree(word, error)
                if worst == DOWN and self._goes_on:
                    _log.warning("real cases stand in from batch %d on, because %s", number, why)
                    progress.is_down = True
                    # The loader is ahead of us: what it has is dropped, and planned anew.
                    progress.begin_again(number, self._plan)
                    batches = iter(self._loader)
                    continue
                if worst != FINE:
                    raise self._end(number, error, why)
                yield batch
                number += 1
        finally:
            progress.is_down = False

    def _end(self, number: int, error: Exception | None, why: str) -> Exception:
        if error is not None and (self._ranks.number == 1 or not isinstance(error, SourceError)):
            return error
        msg = (
            f"batch {number} of epoch {self._progress.epoch} cannot be loaded: {why}; all ranks "
            "stop here, so that none waits for another; mend it and resume from a checkpoint"
        )
        failed = RankFailed(msg)
        failed.__cause__ = error
        return failed


@final
class _Ranks:
    """All ranks of the run, which tell one another how they are, on the CPU."""

    def __init__(self) -> None:
        self._group: Any = None

    @property
    def number(self) -> int:
        is_there = dist.is_available() and dist.is_initialized()
        return dist.get_world_size() if is_there else 1

    def compare(self, settings: Mapping[str, str]) -> None:
        """Raise on all ranks if one of them has other settings, with those that differ."""
        if self.number == 1:
            return
        told = [json.loads(text) for text in self._gathered(json.dumps(settings))]
        differ = [name for name in settings if len({one.get(name) for one in told}) > 1]
        if differ:
            each = (
                f"rank {n} has {', '.join(f'{name} {one.get(name)}' for name in differ)}"
                for n, one in enumerate(told)
            )
            msg = f"all ranks must have the same settings, and {'; '.join(each)}"
            raise DataError(msg)

    def agree(self, word: int, error: Exception | None) -> tuple[int, str]:
        """The worst word of all, and which ranks said it, with their errors."""
        own = f"{type(error).__name__}: {error}"
        if self.number == 1:
            return word, own
        worst = torch.tensor([word])
        dist.all_reduce(worst, dist.ReduceOp.MAX, group=self._meeting())
        if int(worst) == FINE:
            return FINE, ""
        texts = self._gathered(own if word == int(worst) else "")
        said = (f"rank {n}: {_first(text)}" for n, text in enumerate(texts) if text)
        return int(worst), "; ".join(said)

    def _meeting(self) -> Any:
        if self._group is None:
            # Not that of the gradients: it may be for GPUs alone.
            is_gloo = dist.get_backend() == "gloo"
            self._group = dist.group.WORLD if is_gloo else dist.new_group(backend="gloo")
        return self._group

    def _gathered(self, said: str) -> list[str]:
        """What each rank says."""
        # As bytes: objects would be pickled.
        mine = torch.zeros(TEXT_BYTES, dtype=torch.uint8)
        raw = said.encode()[:TEXT_BYTES]
        mine[: len(raw)] = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else 0
        all_of_them = [torch.zeros_like(mine) for _ in range(self.number)]
        dist.all_gather(all_of_them, mine, group=self._meeting())
        return [bytes(one.tolist()).rstrip(b"\0").decode(errors="ignore") for one in all_of_them]


def _next(batches: Iterator[Any]) -> tuple[Any, Exception | None]:
    try:
        return next(batches), None
    except Exception as error:
        return None, error


def _short(text: str) -> str:
    """The text, or what stands for a long one, so that all settings fit into one message."""
    is_short = len(text) <= LONGEST_SETTING
    return text if is_short else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _first(text: str) -> str:
    """The error itself, of which a loader's worker makes the end of a trace."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if text.count("Traceback") else " ".join(lines)
