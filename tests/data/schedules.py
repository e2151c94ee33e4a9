"""Schedules for property tests: of every kind and unit, short enough to end within a few epochs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from nvgen_aug.schedule import Constant
from nvgen_aug.schedule import Cosine
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Piecewise
from nvgen_aug.schedule import Schedule

SHARES = st.one_of(
    st.fractions(0, 1, max_denominator=40),
    st.integers(0, 100).map(lambda percent: percent / 100),
)
UNITS = st.sampled_from(["epochs", "steps"])


def ramps(unit: str) -> st.SearchStrategy[Schedule]:
    """Linear and cosine schedules over this unit."""
    return st.builds(
        lambda kind, start, end, length: kind(start, end, **{unit: length}),
        st.sampled_from([Linear, Cosine]),
        SHARES,
        SHARES,
        st.integers(1, 12),
    )


@st.composite
def piecewise(draw: st.DrawFn) -> Schedule:
    """Shares and ramps, one after another."""
    unit = draw(UNITS)
    begins = [0, *sorted(draw(st.sets(st.integers(1, 15), max_size=3)))]
    value: st.SearchStrategy[Any] = st.one_of(SHARES, ramps(unit))
    return Piecewise(**{unit: {begin: draw(value) for begin in begins}})


SCHEDULES: st.SearchStrategy[Schedule] = st.one_of(
    SHARES.map(Constant), UNITS.flatmap(ramps), piecewise()
)
ZEROS: st.SearchStrategy[Any] = st.sampled_from(
    [0, 0.0, Fraction(0), Constant(0), Linear(0, 0, epochs=2), Piecewise(steps={0: 0, 3: 0})]
)
ONES: st.SearchStrategy[Any] = st.sampled_from(
    [1, 1.0, Fraction(1), Constant(1), Cosine(1, 1, steps=5), Piecewise(epochs={0: 1, 1: 1.0})]
)
