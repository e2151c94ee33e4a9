"""Size vector: the ten numbers from which the mask model draws a label map."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from typing import Final

import numpy as np

from ....organ_sizes import ABSENT

# In the order in which the networks read them.
SIZED_ORGANS: Final = ("gallbladder", "liver", "stomach", "pancreas", "colon")
SIZED_TUMOURS: Final = (
    "lung tumor",
    "pancreatic tumor",
    "hepatic tumor",
    "colon cancer primaries",
    "bone lesion",
)

SIZED_NAMES: Final = (*SIZED_ORGANS, *SIZED_TUMOURS)


def size_vector(
    asked: Mapping[str, float],
    present: Collection[str],
    rng: np.random.Generator,
    patient: Mapping[str, float] | None = None,
) -> tuple[float, ...]:
    """What the mask model is told: a size for each organ, then for each tumour.

    Args:
        asked: Sizes by name, 0 to 1 as a share of all patients, or -1 for absent.
        present: Names of labels that must be there: one without a size gets one.
        rng: All chance there is; it draws the same numbers whatever was asked.
        patient: Whose sizes complete the request. Without one an organ of which nothing was said
            gets a size drawn evenly from all there are, and a tumour of which nothing was said is
            absent.
    """
    drawn = {name: round(float(rng.uniform()), 3) for name in SIZED_NAMES}
    if patient is None:
        patient = {**drawn, **dict.fromkeys(SIZED_TUMOURS, ABSENT)}
    told = {**patient, **asked}
    lacking = {name for name in present if name not in asked and told.get(name, 0.0) < 0}
    return tuple(drawn[name] if name in lacking else told[name] for name in SIZED_NAMES)
