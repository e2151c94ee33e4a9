"""Goal: what training is to see how often, as the command line takes it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from ..data.census import Census
from ..data.strata import Strata
from ..errors import DataError

CensusFile = Annotated[
    Path | None,
    typer.Option(
        metavar="JSON", help="What the real cases show, from `nvgen-aug census`; for --goal."
    ),
]
Goal = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION=SHARE",
        help="Share of all samples that is to show something; may be given several times.",
    ),
]


def strata_of(census: Path | None, goal: Sequence[str], control: bool = False) -> Strata | None:
    """The strata that `--census` and `--goal` name; `None` without a goal.

    Raises:
        DataError: for one without the other, or a share that is none.
    """
    if not goal:
        if census is not None or control:
            msg = "--census and --control need a --goal, such as --goal 'lesion < 10 mm=0.2'"
            raise DataError(msg)
        return None
    if census is None:
        msg = "--goal needs --census, a file that `nvgen-aug census` or `Census.save` wrote"
        raise DataError(msg)
    shares: dict[str, Fraction] = {}
    for text in goal:
        condition, _, number = text.rpartition("=")
        try:
            shares[condition] = Fraction(number.strip())
        except (ValueError, ZeroDivisionError) as error:
            msg = f"--goal is written CONDITION=SHARE, like 'lesion < 10 mm=0.2', got {text!r}"
            raise DataError(msg) from error
    return Strata(shares, Census.load(census), fill="real" if control else "synthetic")
