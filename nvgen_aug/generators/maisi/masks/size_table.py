"""Size table: organ and tumour sizes of patients, with which a request is completed.

It is released beside the weights as `all_anatomy_size_conditions.json`, imported with them, and
part of their digest: with another table the same seed gives another mask.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ....errors import WeightsError
from ....organ_sizes import ABSENT
from .size_vector import SIZED_NAMES
from .size_vector import SIZED_TUMOURS

_KEY: Final = "organ_size"
# From so many patients one is drawn: enough for variety, few enough to be like what was asked.
_ALIKE: Final = 16


def read_size_table(path: Path) -> NDArray[np.float64]:
    """The sizes of all patients in the file that is released, `[N, 10]`, in `SIZED_NAMES`' order.

    Raises:
        WeightsError: It cannot be read, or is no such table.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"cannot read the table of sizes {path}: {error}; fetch the file again"
        raise WeightsError(msg) from error
    if not isinstance(rows, list) or not rows:
        msg = f"{path} must be a list of entries with `{_KEY}`, as NV-Generate's is"
        raise WeightsError(msg)
    for number, row in enumerate(rows):
        if not _is_row(row):
            msg = (
                f"{path}: entry {number} must have `{_KEY}` with {len(SIZED_NAMES)} numbers, "
                f"{', '.join(SIZED_NAMES)}; fetch the file again"
            )
            raise WeightsError(msg)
    return np.array([row[_KEY] for row in rows], dtype=np.float64)


def _is_row(row: Any) -> bool:
    sizes = row.get(_KEY) if isinstance(row, Mapping) else None
    return (
        isinstance(sizes, list)
        and len(sizes) == len(SIZED_NAMES)
        and all(type(size) in (int, float) and abs(size) < 1e6 for size in sizes)  # not NaN either
    )


def nearest_patient(table: NDArray[np.float64], asked: Mapping[str, float]) -> dict[str, float]:
    """The first of the patients who come nearest to what was asked, as NV-Generate chooses."""
    return _named(table[int(_distances(table, asked).argmin())])


def patient_like(
    table: NDArray[np.float64],
    asked: Mapping[str, float],
    needed: Collection[str],
    rng: np.random.Generator,
) -> dict[str, float]:
    """One of the patients who come nearest to what was asked, without tumours nobody asked for.

    Args:
        table: All patients.
        asked: Sizes by name.
        needed: What must be there, in any size. Who lacks some of it is passed over, unless
            everybody does.
        rng: One number is drawn, whatever was asked.
    """
    at = [SIZED_NAMES.index(name) for name in sorted(needed)]
    has_all = (table[:, at] >= 0).all(axis=1)
    patients = table[has_all] if has_all.any() else table
    distances = _distances(patients, asked)
    reach = np.sort(distances)[:_ALIKE][-1]
    alike = patients[distances <= reach]
    drawn = _named(alike[int(rng.uniform() * len(alike))])
    return {n: ABSENT if n in SIZED_TUMOURS and n not in needed else s for n, s in drawn.items()}


def _distances(table: NDArray[np.float64], asked: Mapping[str, float]) -> NDArray[np.float64]:
    at = [SIZED_NAMES.index(name) for name in asked]
    wanted = np.array(list(asked.values()), dtype=np.float64)
    distances: NDArray[np.float64] = np.abs(table[:, at] - wanted).sum(axis=1)
    return distances


def _named(sizes: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(SIZED_NAMES, sizes.tolist(), strict=True))
