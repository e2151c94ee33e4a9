"""Size vector: the ten numbers from which the mask model draws a label map."""

from __future__ import annotations

from collections.abc import Iterable
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


def size_vector(
    asked: Mapping[str, float], present: Iterable[str], rng: np.random.Generator
) -> tuple[float, ...]:
    """What the mask model is told: a size for each organ, then for each tumour.

    Upstream completes a request from a table of patients, which is not part of the weights. Here an
    organ of which nothing was said gets a size drawn evenly from all there are, a tumour of which
    nothing was said is absent.

    Args:
        asked: Sizes by name, 0 to 1 as a share of all patients, or -1 for absent.
        present: Names of labels that must be there: a tumour among them without a size gets one.
        rng: All chance there is; it draws the same numbers whatever was asked.
    """
    drawn = {name: round(float(rng.uniform()), 3) for name in (*SIZED_ORGANS, *SIZED_TUMOURS)}
    needed = {*SIZED_ORGANS, *present}
    return tuple(
        asked.get(name, drawn[name] if name in needed else ABSENT)
        for name in (*SIZED_ORGANS, *SIZED_TUMOURS)
    )
