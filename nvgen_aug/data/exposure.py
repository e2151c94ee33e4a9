"""Exposure: how often each condition was asked for and is shown, and why not more."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from .quota import Quota
from .quota import Tally


@final
@dataclass(frozen=True, slots=True)
class Exposure:
    """One condition of a goal, over the samples of a run so far.

    Args:
        condition: Such as `"lesion < 10 mm"`.
        samples: All samples, real and synthetic.
        asked: Share of them that was asked for.
        feasible: Share that real cases and draws can reach; what was asked, where
            there are enough draws.
        real: Samples of the real sequence that fulfil it.
        drawn: Draws that fulfil it by plan: synthetic ones, or repeated real cases.
        unmet: Why `delivered` is a whole sample or more away from `asked`; empty if
            it is not.
    """

    condition: str
    samples: int
    asked: float
    feasible: float
    real: int
    drawn: int
    unmet: str

    @property
    def delivered(self) -> float:
        """Share of the samples that fulfil it."""
        return (self.real + self.drawn) / self.samples if self.samples else 0.0


@final
@dataclass(frozen=True, slots=True)
class Held:
    """What the labels of loaded synthetic samples show of one condition.

    Args:
        asked: Samples that were loaded to fulfil it.
        fulfilled: Those of them that do.
        others: Samples that were loaded to show no such thing.
        anyway: Those of them that do show it.
    """

    asked: int
    fulfilled: int
    others: int
    anyway: int

    def __str__(self) -> str:
        text = f"by their labels {self.fulfilled} of {self.asked} loaded for it show it"
        return text + (f", and {self.anyway} of {self.others} others" if self.anyway else "")


def exposures(
    tallies: Sequence[Tally], samples: int, drawn: Fraction, *, fills_with_real: bool
) -> tuple[Exposure, ...]:
    """What was asked and what is shown, condition by condition.

    Args:
        tallies: Where the quotas stand.
        samples: Samples so far.
        drawn: How many of them were to be drawn.
        fills_with_real: Whether real cases stand in the place of synthetic ones.
    """
    share = drawn / samples
    return tuple(
        Exposure(
            condition=row.name,
            samples=samples,
            asked=float(row.asked),
            feasible=float(row.due / samples),
            real=row.real,
            drawn=row.shown - row.real,
            unmet=_why(row, tally.quota, samples, share, fills_with_real),
        )
        for tally in tallies
        for row in _rows(tally)
    )


@final
@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: int
    asked: Fraction
    due: Fraction
    real: int
    shown: int
    alone: Fraction  # share of the real cases that show it


def _rows(tally: Tally) -> Iterator[_Row]:
    quota = tally.quota
    if quota.whole is not None:
        yield _Row(
            quota.name, quota.other, quota.whole, tally.due_whole, tally.real_whole, tally.whole,
            quota.alone_whole,
        )  # fmt: skip
    for part, asked in enumerate(quota.parts):
        yield _Row(
            quota.kinds[part], part, asked, tally.due_parts[part], tally.real_parts[part],
            tally.parts[part], quota.alone[part],
        )  # fmt: skip


def _why(row: _Row, quota: Quota, samples: int, share: Fraction, fills_with_real: bool) -> str:
    gap = row.asked * samples - row.shown
    if abs(gap) < 1:
        return ""
    seen = (1 - share) * row.alone
    if gap < 0 and seen > row.asked:
        least = 1 - row.asked / row.alone
        return (
            f"the real cases alone show it in {float(seen):.0%} of the samples; a ratio of "
            f"{float(least):.2f} would dilute it to the goal"
        )
    if gap > 0 and row.kind < quota.other and not quota.possible[row.kind]:
        return "no real case shows it" if fills_with_real else "the recipe draws none"
    needed = _needed(row, quota)
    if gap > 0 and needed > 1:
        return "no ratio meets it beside the other goals of its class"
    if gap > 0 and needed > share:
        return f"needs a ratio of {float(needed):.2f}, and it is {float(share):.2f}"
    if fills_with_real and gap < 0:
        return "real cases repeated for another condition show this one, too"
    return "the real cases came unevenly so far"


def _needed(row: _Row, quota: Quota) -> Fraction:
    """The least share of draws with which a goal can be met; above 1 if none can.

    A class in several sizes needs draws for all of them that lack: Σ (tᵢ − (1 − ρ) pᵢ) ≤ ρ for
    the asked shares tᵢ and the shares pᵢ of the real cases.
    """
    if row.kind == quota.other:
        asked, alone = row.asked, row.alone
    else:
        lacking = [pair for pair in zip(quota.parts, quota.alone, strict=True) if pair[0] > pair[1]]
        asked = sum((part for part, _ in lacking), Fraction(0))
        alone = sum((rate for _, rate in lacking), Fraction(0))
    if asked <= alone:
        return Fraction(0)
    return (asked - alone) / (1 - alone) if alone < 1 else Fraction(2)
