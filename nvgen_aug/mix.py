"""Mix: which draws of a run are synthetic, as arithmetic on running counts.

The share is a rational number. After `n` samples of the whole run, counted
over epochs and ranks, exactly `floor(n × share)` of them are synthetic, so the
delivered count is never a whole sample away from the asked one. Chance decides
only the order inside a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Rational
from numbers import Real
from typing import final

from .errors import RatioError


def share(value: Fraction | Decimal | float | str) -> Fraction:
    """A share of synthetic samples as an exact fraction.

    A float is read as the decimal it prints as: 0.3 is 3/10, not the binary
    number beside it, which would deliver 11 samples where 12 were asked.

    Raises:
        RatioError: unless the value is a number in [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal, str)):
        msg = f"ratio must be a number in [0, 1], got {value!r}"
        raise RatioError(msg)
    if isinstance(value, str):
        msg = f"ratio must be a number in [0, 1], got the text {value!r}; write it without quotes"
        raise RatioError(msg)
    if not isinstance(value, Rational) and not math.isfinite(value):
        msg = f"ratio must be a number in [0, 1], got {value!r}"
        raise RatioError(msg)
    fraction = Fraction(value) if isinstance(value, (Rational, Decimal)) else Fraction(str(value))
    if not 0 <= fraction <= 1:
        hint = f" (did you mean {float(fraction / 100)}?)" if 2 <= fraction <= 100 else ""
        msg = f"ratio must lie in [0, 1], got {value}{hint}"
        raise RatioError(msg)
    return fraction


@final
@dataclass(frozen=True, slots=True)
class Mix:
    """The share of synthetic samples, as cumulative counts for the run and for each rank.

    Args:
        ratio: Share of synthetic samples.
        world_size: Number of ranks that draw in step.
    """

    ratio: Fraction
    world_size: int = 1

    def synthetic_before(self, samples: int) -> int:
        """How many of the first `samples` samples of the run are synthetic, all ranks together."""
        return math.floor(samples * self.ratio)

    def rank_synthetic_before(self, samples: int, rank: int) -> int:
        """How many of the first `samples` samples of one rank are synthetic.

        Each rank has the floor of its own share, and the ranks with the lowest
        numbers have one more until the total is that of `synthetic_before`.
        Hence every rank, too, is less than one sample away from its share, and
        the counts never fall from one batch to the next.
        """
        floor = math.floor(samples * self.ratio)
        extra = self.synthetic_before(samples * self.world_size) - floor * self.world_size
        return floor + (1 if rank < extra else 0)
