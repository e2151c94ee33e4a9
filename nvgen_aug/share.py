"""Share: a share of synthetic samples as an exact fraction."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from numbers import Rational
from numbers import Real

from .errors import RatioError

Share = Fraction | Decimal | float


def share(value: Share | str, name: str = "ratio") -> Fraction:
    """A share of synthetic samples as an exact fraction.

    A float is read as the decimal it prints as: 0.3 is 3/10, not the binary
    number beside it, which would deliver 11 samples where 12 were asked.

    Args:
        value: The share.
        name: What errors call it.

    Raises:
        RatioError: unless the value is a number in [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal, str)):
        msg = f"{name} must be a number in [0, 1], got {value!r}"
        raise RatioError(msg)
    if isinstance(value, str):
        msg = f"{name} must be a number in [0, 1], got the text {value!r}; write it without quotes"
        raise RatioError(msg)
    if not isinstance(value, Rational) and not math.isfinite(value):
        msg = f"{name} must be a number in [0, 1], got {value!r}"
        raise RatioError(msg)
    fraction = Fraction(value) if isinstance(value, (Rational, Decimal)) else Fraction(str(value))
    if not 0 <= fraction <= 1:
        hint = f" (did you mean {float(fraction / 100)}?)" if 2 <= fraction <= 100 else ""
        msg = f"{name} must lie in [0, 1], got {value}{hint}"
        raise RatioError(msg)
    return fraction
