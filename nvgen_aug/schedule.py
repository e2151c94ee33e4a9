"""Schedule: the share of synthetic samples, constant or changing during a run, as exact numbers.

A schedule is asked by the number of a step or of an epoch, and answers with
fractions, so that sums over a whole run are exact.
"""

from __future__ import annotations

import math
from abc import ABC
from abc import abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any
from typing import Literal
from typing import final

from .errors import RatioError
from .share import Share
from .share import share

Unit = Literal["epochs", "steps"]

_COSINE_DIGITS = 9


class Schedule(ABC):
    """The share of synthetic samples at each time of a run.

    Time counts steps (global batches of the run, from 0) or epochs (from 0).
    Over epochs the share is the same in all batches of an epoch, so it does not
    depend on the batch size. As text, a schedule is what `--ratio` takes.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def unit(self) -> Unit | None:
        """What time counts; `None` where the share never changes."""

    @property
    @abstractmethod
    def duration(self) -> int:
        """The time from which on the share stays as it is."""

    @property
    @abstractmethod
    def least(self) -> Fraction:
        """No share is lower."""

    @property
    @abstractmethod
    def most(self) -> Fraction:
        """No share is higher."""

    @abstractmethod
    def share_at(self, time: int) -> Fraction:
        """The share at a time ≥ 0."""

    @abstractmethod
    def total(self, time: int) -> Fraction:
        """The sum of the shares at all times before this one, exactly."""


@final
@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """The same share from the first batch to the last; a plain number means this.

    Args:
        share: Share of synthetic samples.

    Raises:
        RatioError: unless the share is a number in [0, 1].
    """

    share: Share

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", share(self.share, "share"))

    @property
    def unit(self) -> Unit | None:
        return None

    @property
    def duration(self) -> int:
        return 0

    @property
    def least(self) -> Fraction:
        return self.share_at(0)

    @property
    def most(self) -> Fraction:
        return self.share_at(0)

    def share_at(self, time: int) -> Fraction:
        return self.share  # type: ignore[return-value]  # made exact by __post_init__

    def total(self, time: int) -> Fraction:
        return time * self.share_at(0)

    def __str__(self) -> str:
        return str(self.share)


class AbstractRamp(Schedule):
    """From one share to another within a number of epochs or of steps."""

    __slots__ = ()

    start: Share
    end: Share
    epochs: int | None
    steps: int | None

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in ("start", "end"):
            object.__setattr__(self, field, share(getattr(self, field), f"{name} {field}"))
        unit = _unit_of(name, self.epochs, self.steps, f"{name}(0, 0.5, epochs=10)")
        duration = _count(f"{name} {unit}", getattr(self, unit), 1)
        object.__setattr__(self, unit, duration)

    @property
    def unit(self) -> Unit | None:
        return "steps" if self.epochs is None else "epochs"

    @property
    def duration(self) -> int:
        duration = self.steps if self.epochs is None else self.epochs
        assert duration is not None
        return duration

    @property
    def ends(self) -> tuple[Fraction, Fraction]:
        """Start and end."""
        return self.start, self.end  # type: ignore[return-value]  # exact since __post_init__

    @property
    def least(self) -> Fraction:
        return min(self.ends)

    @property
    def most(self) -> Fraction:
        return max(self.ends)

    def share_at(self, time: int) -> Fraction:
        start, end = self.ends
        if time >= self.duration:
            return end
        return end + (start - end) * (self.weights(time + 1) - self.weights(time))

    def total(self, time: int) -> Fraction:
        start, end = self.ends
        return time * end + (start - end) * self.weights(min(time, self.duration))

    @abstractmethod
    def weights(self, time: int) -> Fraction:
        """How much `start` counts, summed over all times before this one, up to `duration`."""

    def __str__(self) -> str:
        kind = type(self).__name__.lower()
        return f"{kind}:{self.start}:{self.end}:{self.unit}={self.duration}"


@final
@dataclass(frozen=True, slots=True)
class Linear(AbstractRamp):
    """A straight line: `start` at time 0, `end` at time `epochs` (or `steps`) and ever after.

    Args:
        start: Share of the first epoch or step.
        end: Share that is reached after `epochs` or `steps`.
        epochs: Length of the line in epochs; within an epoch the share is constant.
        steps: Length in steps, that is in global batches; give one of the two.

    Raises:
        RatioError: for a share outside [0, 1], or without exactly one length.
    """

    start: Share
    end: Share
    epochs: int | None = None
    steps: int | None = None

    def weights(self, time: int) -> Fraction:
        return time - Fraction(time * (time - 1), 2 * self.duration)


@final
@dataclass(frozen=True, slots=True)
class Cosine(AbstractRamp):
    """Half a cosine: `start` at time 0, then slow, fast, slow, and `end` from `epochs` on.

    A cosine is not rational. Its weight (1 + cos(πt/T)) / 2 is rounded to nine
    decimals, and this rounded share is what is asked; sums of it are exact.

    Args:
        start: Share of the first epoch or step.
        end: Share that is reached after `epochs` or `steps`.
        epochs: Length T in epochs; within an epoch the share is constant.
        steps: Length T in steps, that is in global batches; give one of the two.

    Raises:
        RatioError: for a share outside [0, 1], or without exactly one length.
    """

    start: Share
    end: Share
    epochs: int | None = None
    steps: int | None = None

    def weights(self, time: int) -> Fraction:
        return Fraction(_cosine_sums(self.duration)[time], 10**_COSINE_DIGITS)


@final
@dataclass(frozen=True, slots=True)
class Piecewise(Schedule):
    """One share after another: `Piecewise(epochs={0: 0.5, 50: 0.25, 80: 0})`.

    A piece may be a ramp, too, whose clock starts with the piece:
    `Piecewise(epochs={0: Linear(0, 0.5, epochs=10), 80: Cosine(0.5, 0, epochs=20)})`
    rises for ten epochs, stays until the eightieth and falls to nothing in the hundredth.

    Args:
        epochs: The share, or schedule, from each epoch on; a mapping, or pairs.
        steps: The same by steps, that is by global batches; give one of the two.

    Raises:
        RatioError: for a share outside [0, 1], pieces that do not begin at 0, or a
            ramp of the other unit.
    """

    epochs: Mapping[int, Share | Schedule] | Sequence[tuple[int, Share | Schedule]] | None = None
    steps: Mapping[int, Share | Schedule] | Sequence[tuple[int, Share | Schedule]] | None = None

    def __post_init__(self) -> None:
        unit = _unit_of("Piecewise", self.epochs, self.steps, "Piecewise(epochs={0: 0, 10: 0.5})")
        given = getattr(self, unit)
        try:
            pairs = [(b, s) for b, s in (given.items() if isinstance(given, Mapping) else given)]
        except (TypeError, ValueError) as error:
            msg = f"Piecewise {unit} must map each begin to a share, got {given!r}"
            raise RatioError(msg) from error
        pieces = tuple(
            (_count(f"Piecewise {unit}", begin, 0), _piece(unit, begin, value))
            for begin, value in pairs
        )
        begins = [begin for begin, _ in pieces]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)):
            msg = f"Piecewise {unit} must begin at 0 and rise, got {begins}"
            raise RatioError(msg)
        object.__setattr__(self, unit, pieces)

    @property
    def pieces(self) -> tuple[tuple[int, Schedule], ...]:
        """Begin and schedule of each piece."""
        return self.steps if self.epochs is None else self.epochs  # type: ignore[return-value]

    @property
    def unit(self) -> Unit | None:
        return "steps" if self.epochs is None else "epochs"

    @property
    def duration(self) -> int:
        begin, last = self.pieces[-1]
        return begin + last.duration

    @property
    def least(self) -> Fraction:
        return min(piece.least for _, piece in self.pieces)

    @property
    def most(self) -> Fraction:
        return max(piece.most for _, piece in self.pieces)

    def share_at(self, time: int) -> Fraction:
        begin, piece = next(pair for pair in reversed(self.pieces) if pair[0] <= time)
        return piece.share_at(time - begin)

    def total(self, time: int) -> Fraction:
        ends = [begin for begin, _ in self.pieces[1:]] + [time]
        parts = zip(self.pieces, ends, strict=True)
        return sum(
            (piece.total(min(end, time) - begin) for (begin, piece), end in parts if begin < time),
            Fraction(0),
        )

    def __str__(self) -> str:
        pieces = ",".join(f"{begin}={piece}" for begin, piece in self.pieces)
        return f"piecewise:{self.unit}:{pieces}"


def as_schedule(value: Schedule | Share) -> Schedule:
    """A schedule as it is, and a number as a constant share.

    Raises:
        RatioError: for anything but a schedule or a number in [0, 1].
    """
    return value if isinstance(value, Schedule) else Constant(share(value))


def _unit_of(name: str, epochs: Any, steps: Any, example: str) -> Unit:
    if (epochs is None) == (steps is None):
        found = "neither" if epochs is None else "both"
        msg = f"{name} needs epochs= or steps=, got {found}; write for instance {example}"
        raise RatioError(msg)
    return "steps" if epochs is None else "epochs"


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        msg = f"{name} must be an integer ≥ {least}, got {value!r}"
        raise RatioError(msg)
    return int(value)


def _piece(unit: Unit, begin: int, value: Schedule | Share) -> Schedule:
    if not isinstance(value, Schedule):
        return Constant(share(value, f"Piecewise share from {begin} on"))
    if isinstance(value, Piecewise) or value.unit not in (None, unit):
        msg = f"a piece over {unit} must be a share or a ramp over {unit}, got {value}"
        raise RatioError(msg)
    return value


@lru_cache(maxsize=8)
def _cosine_sums(duration: int) -> tuple[int, ...]:
    """Sums of the weights before each time 0 … `duration`, in units of the last decimal."""
    # One by one: a vectorised cosine may differ in its last bit from machine to machine.
    unit = 10**_COSINE_DIGITS
    weights = (
        round((1 + math.cos(math.pi * time / duration)) / 2 * unit) for time in range(duration)
    )
    return tuple(accumulate(weights, initial=0))
