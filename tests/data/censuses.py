"""Censuses for tests: real cases with lesions of given sizes, and columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence

from hypothesis import strategies as st

from nvgen_aug.data.census import CaseCount
from nvgen_aug.data.census import Census

SIZES = st.sampled_from([4.0, 8.0, 15.0, 25.0])


def counted(
    diameters: Sequence[Sequence[float]], columns: Mapping[str, Sequence[str]] | None = None
) -> Census:
    """A census of cases with lesions of these diameters in mm."""
    table = columns or {}
    cases = tuple(
        CaseCount(
            name=f"case {number}",
            identity=f"case {number}",
            volumes={"lesion": tuple(math.pi / 6 * size**3 for size in sizes)},
            columns={name: values[number] for name, values in table.items()},
        )
        for number, sizes in enumerate(diameters)
    )
    return Census({"lesion": 1}, tuple(table), cases)


CENSUSES: st.SearchStrategy[Census] = st.lists(
    st.lists(SIZES, max_size=2), min_size=1, max_size=9
).map(counted)
