"""Quota: which kinds of draws close the gap between what real cases show and what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from typing import final

NONE = Fraction(0)


@final
@dataclass(frozen=True, slots=True)
class Quota:
    """What is wanted of one class or one column, and what each real case shows of it.

    A draw is of one kind: 0 … m − 1 fulfil one of the m parts each (sizes of a class,
    values of a column), m shows the class, but in no such size, and m + 1 is the rest.

    Args:
        name: Class or column.
        kinds: Names of the m + 2 kinds.
        parts: Shares of all samples that are to fulfil each part.
        whole: Share of all samples that are to show the class in any size, or `None`
            where that was not asked.
        real_parts: For each part, whether each real case fulfils it.
        real_whole: Whether each real case shows the class.
        possible: Whether each of the kinds 0 … m can be drawn.
    """

    name: str
    kinds: tuple[str, ...]
    parts: tuple[Fraction, ...]
    whole: Fraction | None
    real_parts: tuple[tuple[bool, ...], ...]
    real_whole: tuple[bool, ...]
    possible: tuple[bool, ...]

    @property
    def alone(self) -> tuple[Fraction, ...]:
        """Share of the real cases that fulfil each part."""
        return tuple(_rate(marks) for marks in self.real_parts)

    @property
    def alone_whole(self) -> Fraction:
        """Share of the real cases that show the class."""
        return _rate(self.real_whole)

    @property
    def other(self) -> int:
        """The kind that shows the class in no asked size; the rest comes after it."""
        return len(self.parts)

    @property
    def shown_kinds(self) -> tuple[int, ...]:
        """The kinds that show what was asked and can be drawn."""
        asked = self.other if self.whole is None else self.other + 1
        return tuple(kind for kind in range(asked) if self.possible[kind])

    def rates(self, share: Fraction) -> Rates:
        """What can be shown, and drawn, of a sample.

        That is what was asked where there are draws enough: a draw can only add to what
        the real cases show. Otherwise all draws go where samples lack, in proportion.

        Args:
            share: Share of the samples that are drawn (synthetic), not real.
        """
        real = 1 - share
        draws = [
            max(NONE, asked - real * alone) if can else NONE
            for asked, alone, can in zip(self.parts, self.alone, self.possible[:-1], strict=True)
        ]
        total = sum(draws, NONE)
        if total > share:
            draws = [part * share / total for part in draws]
            total = share
        drawn = total
        if self.whole is not None and self.possible[self.other]:
            drawn = min(max(self.whole - real * self.alone_whole, total), share)
        shown = [real * alone + part for alone, part in zip(self.alone, draws, strict=True)]
        return Rates(
            parts=tuple(shown),
            whole=real * self.alone_whole + drawn,
            draws=(*draws, drawn - total, share - drawn),
        )


@final
@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the samples of a run.

    Args:
        parts: Share that is to fulfil each part, real samples included.
        whole: Share that is to show the class.
        draws: Share that is to be drawn of each of the m + 2 kinds.
    """

    parts: tuple[Fraction, ...]
    whole: Fraction
    draws: tuple[Fraction, ...]


@final
@dataclass(slots=True)
class Tally:
    """Where one quota stands in a run: samples that are due, and those that were shown.

    Args:
        quota: What is wanted.
    """

    quota: Quota
    due_parts: list[Fraction] = field(init=False)
    due_whole: Fraction = field(init=False, default=NONE)
    due_rest: Fraction = field(init=False, default=NONE)
    parts: list[int] = field(init=False)
    whole: int = field(init=False, default=0)
    rest: int = field(init=False, default=0)
    real_parts: list[int] = field(init=False)
    real_whole: int = field(init=False, default=0)
    _now: Rates | None = field(init=False, default=None)
    _rates: dict[Fraction, Rates] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.due_parts = [NONE] * len(self.quota.parts)
        self.parts = [0] * len(self.quota.parts)
        self.real_parts = [0] * len(self.quota.parts)

    def demand(self, samples: int, share: Fraction) -> None:
        """So many more samples are drawn at this share."""
        if share not in self._rates:
            self._rates[share] = self.quota.rates(share)
        now = self._now = self._rates[share]
        self.due_parts = [
            due + samples * part for due, part in zip(self.due_parts, now.parts, strict=True)
        ]
        self.due_whole += samples * now.whole
        self.due_rest += samples * now.draws[-1]

    def show_case(self, case: int, *, is_drawn: bool = False) -> None:
        """A real case was shown; as a draw, where real cases fill the gap."""
        for part, marks in enumerate(self.quota.real_parts):
            self.parts[part] += marks[case]
            self.real_parts[part] += marks[case] and not is_drawn
        self.whole += self.quota.real_whole[case]
        self.real_whole += self.quota.real_whole[case] and not is_drawn

    def show_kind(self, kind: int) -> None:
        """A synthetic draw of this kind was shown."""
        if kind < self.quota.other:
            self.parts[kind] += 1
        self.whole += kind <= self.quota.other

    def choose(self, draws: int) -> list[int]:
        """The kinds of the next draws.

        Earliest deadline first: of the kinds that are owed anything, the one goes first
        that would soonest be a whole sample behind. With constant rates this keeps every
        kind less than one sample away from what is due, at every batch boundary (the
        windows of the samples satisfy Hall's condition, as in just-in-time sequencing,
        Steiner and Yeomans 1993). Where the whole class was asked for, it is decided first
        which draws show it, then in which size; the class stays as near, and a size may
        be one sample away, never two. (No order of draws keeps all of them within one for
        8/30, 1/3 and 1/3 in a class of 113/120 at a share of 379/400 and a batch of 3.)
        """
        quota, now = self.quota, self._now
        assert now is not None, "`demand` comes first"
        rest = quota.other + 1
        lack = [due - shown for due, shown in zip(self.due_parts, self.parts, strict=True)]
        lack_whole = self.due_whole - self.whole
        lack.append(lack_whole - sum(lack, NONE))
        lack.append(self.due_rest - self.rest)
        sizes = quota.shown_kinds
        chosen = []
        for _ in range(draws):
            if quota.whole is None:
                kind = _first([*sizes, rest], lack, now.draws, waits=rest)
            else:
                whole = _first(
                    [0, 1] if sizes else [1], [lack_whole, lack[rest]],
                    [sum(now.draws[:rest], NONE), now.draws[rest]], waits=1,
                )  # fmt: skip
                kind = rest if whole else _first(sizes, lack, now.draws)
            lack[kind] -= 1
            lack_whole -= kind != rest
            chosen.append(kind)
        self.rest += chosen.count(rest)
        return chosen


def _first(
    kinds: Sequence[int],
    lack: Sequence[Fraction],
    rates: Sequence[Fraction],
    waits: int | None = None,
) -> int:
    """The kind whose deadline is next, or the last one where nothing is owed to any.

    The kind `waits` lets all others go first that are a whole sample behind.
    """
    late = [kind for kind in kinds if lack[kind] >= 1 and kind != waits]
    owed = late or [kind for kind in kinds if lack[kind] > 0]
    if not owed:
        return kinds[-1]

    def deadline(kind: int) -> tuple[bool, Fraction]:
        left = 1 - lack[kind]
        return (not rates[kind] and left > 0), left / rates[kind] if rates[kind] else left

    return min(owed, key=lambda kind: (deadline(kind), kind))


def _rate(marks: tuple[bool, ...]) -> Fraction:
    return Fraction(sum(marks), len(marks)) if marks else NONE
