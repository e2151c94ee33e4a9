"""Quota run: the stratum of every draw of a run, batch by batch from its begin."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from .quota import Quota
from .quota import Tally
from .seeds import derived_seed

if TYPE_CHECKING:
    from fractions import Fraction


@final
@dataclass(frozen=True, slots=True)
class Quotas:
    """All that a plan has to know of strata.

    Args:
        quotas: One for each class or column that the goal names.
        fills_with_real: Whether real cases that show what lacks stand in the place of
            synthetic ones.
    """

    quotas: tuple[Quota, ...]
    fills_with_real: bool = False

    def stratum(self, kinds: tuple[int, ...]) -> str:
        """The name of a combination of kinds, one for each quota."""
        pairs = zip(self.quotas, kinds, strict=True)
        return " & ".join(quota.kinds[kind] for quota, kind in pairs)

    def digest(self) -> str:
        """16 hex digits that name what is wanted and what the real cases show."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def cases(self, kinds: tuple[int, ...]) -> tuple[int, ...]:
        """The real cases of a stratum; where there is none, of its first quotas alone."""
        return _cases(self, kinds)


@final
@dataclass(frozen=True, slots=True)
class Draw:
    """One draw that is not of the real sequence.

    Args:
        stratum: Its stratum.
        number: How many draws of that stratum came before.
        kinds: Its kind in each quota.
    """

    stratum: str
    number: int
    kinds: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """What a global batch asks: its samples, draws among them, share and real cases."""

    samples: int
    draws: int
    share: Fraction
    cases: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands: draws of each stratum so far, and each quota's tally."""

    numbers: dict[str, int]
    tallies: tuple[Tally, ...]


@final
class QuotaRun:
    """Walks a run from its begin, since what lacks depends on what was shown before.

    Args:
        quotas: What is wanted.
        seed: Where the order inside a batch comes from.
        batches: Global batches of an epoch.
        batch: What global batch number i of the run asks.
    """

    __slots__ = (
        "_batch", "_batches", "_draws", "_numbers", "_quotas", "_seed", "_standings", "_tallies"
    )  # fmt: skip

    def __init__(
        self, quotas: Quotas, seed: int, batches: int, batch: Callable[[int], Batch]
    ) -> None:
        self._quotas = quotas
        self._seed = seed
        self._batches = batches
        self._batch = batch
        self._draws: list[tuple[Draw, ...]] = []
        self._numbers: Counter[str] = Counter()
        self._tallies = tuple(Tally(quota) for quota in quotas.quotas)
        self._standings = [self._standing()]

    def draws(self, batch: int) -> tuple[Draw, ...]:
        """The draws of a global batch, in order."""
        while len(self._draws) <= batch:
            self._step()
        return self._draws[batch]

    def before(self, epoch: int) -> Standing:
        """Where the run stands before an epoch."""
        while len(self._standings) <= epoch:
            self._step()
        return self._standings[epoch]

    def _step(self) -> None:
        number = len(self._draws)
        asked = self._batch(number)
        kinds = []
        for place, tally in enumerate(self._tallies):
            self._show_real(tally, asked)
            chosen = tally.choose(asked.draws)
            if len(set(chosen)) > 1:
                seed = derived_seed("stratum", self._seed, number, place)
                np.random.default_rng(seed).shuffle(chosen)
            kinds.append(chosen)
        draws = []
        for combined in zip(*kinds, strict=True):
            stratum = self._quotas.stratum(combined)
            draws.append(Draw(stratum, self._numbers[stratum], combined))
            self._numbers[stratum] += 1
        for place, tally in enumerate(self._tallies):
            for draw in draws:
                self._show(tally, draw, place)
        self._draws.append(tuple(draws))
        if len(self._draws) % self._batches == 0:
            self._standings.append(self._standing())

    def _standing(self) -> Standing:
        return Standing(dict(self._numbers), deepcopy(self._tallies))

    def _show_real(self, tally: Tally, asked: Batch) -> None:
        tally.demand(asked.samples, asked.share)
        for case in asked.cases:
            tally.show_case(case)

    def _show(self, tally: Tally, draw: Draw, place: int) -> None:
        if self._quotas.fills_with_real:
            tally.show_case(self.case_of(draw), is_drawn=True)
        else:
            tally.show_kind(draw.kinds[place])

    def case_of(self, draw: Draw) -> int:
        """The real case that stands in a draw's place where real cases fill the gap."""
        cases = self._quotas.cases(draw.kinds)
        number, place = divmod(draw.number, len(cases))
        return cases[int(_order(self._seed, draw.stratum, number, len(cases))[place])]


@lru_cache(maxsize=256)
def _cases(quotas: Quotas, kinds: tuple[int, ...]) -> tuple[int, ...]:
    pool = set(range(len(quotas.quotas[0].real_whole)))
    for quota, kind in zip(quotas.quotas, kinds, strict=True):
        pool = _of_kind(quota, kind, pool) or pool
    return tuple(sorted(pool))


def _of_kind(quota: Quota, kind: int, cases: set[int]) -> set[int]:
    if kind < quota.other:
        return {case for case in cases if quota.real_parts[kind][case]}
    plain = {case for case in cases if not any(marks[case] for marks in quota.real_parts)}
    if kind == quota.other:
        return {case for case in plain if quota.real_whole[case]}
    if quota.whole is None:
        return plain
    return {case for case in cases if not quota.real_whole[case]}


@lru_cache(maxsize=64)
def _order(seed: int, stratum: str, number: int, length: int) -> tuple[int, ...]:
    rng = np.random.default_rng(derived_seed("repeat", seed, stratum, number))
    return tuple(rng.permutation(length).tolist())
