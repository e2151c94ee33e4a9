"""RunSummary: what a run was asked for and what it saw, added up from its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import final

import numpy as np

from ..data.manifest import Manifest
from ..data.manifest import share_of_synthetic
from .detectability import LEAST
from .detectability import Detectability
from .detectability import detectability_of

Row = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class ShareRow:
    """Asked and delivered share of one part of a run, such as a rank.

    Args:
        name: The part.
        samples: Samples of it.
        synthetic: Synthetic ones among them.
        asked: Share that was asked for, on average over its samples.
    """

    name: str
    samples: int
    synthetic: int
    asked: float

    @property
    def delivered(self) -> float:
        """Share of synthetic samples."""
        return self.synthetic / self.samples if self.samples else 0.0


@final
@dataclass(frozen=True, slots=True)
class Exposure:
    """How often a class, or a stratum, was seen.

    Args:
        name: Its name.
        real, synthetic: Samples with it.
        real_voxels, synthetic_voxels: Voxels of it in these samples.
    """

    name: str
    real: int
    synthetic: int
    real_voxels: int = 0
    synthetic_voxels: int = 0


@final
@dataclass(frozen=True, slots=True)
class Loading:
    """Seconds to load a sample.

    Args:
        name: `"real"` or `"synthetic"`.
        samples: How many there were.
        median, slow: The 50th and the 95th percentile.
    """

    name: str
    samples: int
    median: float
    slow: float


@final
@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in numbers.

    Args:
        whole: Shares of all of it.
        epochs, ranks, workers: Shares of its parts.
        boundary: The largest distance, at the end of any step of the run, between the
            synthetic samples delivered and asked up to there.
        classes: Exposure to each label.
        strata: Exposure to each stratum; empty for a run without strata.
        statuses: Samples by status.
        volumes: Different synthetic volumes.
        most_uses: Uses of the volume that was used most often.
        loading: Time to load, by kind.
        prepared: Detectability before augmentation, or `None` if there are too few images.
        delivered: Detectability as the network sees the images, likewise.
    """

    whole: ShareRow
    epochs: tuple[ShareRow, ...]
    ranks: tuple[ShareRow, ...]
    workers: tuple[ShareRow, ...]
    boundary: float
    classes: tuple[Exposure, ...]
    strata: tuple[Exposure, ...]
    statuses: Mapping[str, int]
    volumes: int
    most_uses: int
    loading: tuple[Loading, ...]
    prepared: Detectability | None
    delivered: Detectability | None

    @classmethod
    def of(cls, manifest: Manifest, *, detect: bool = True) -> RunSummary:
        """The numbers of a run.

        Args:
            manifest: Its samples.
            detect: Whether to train the detector, which needs scikit-learn.

        Raises:
            DataError: without scikit-learn, if it is needed.
        """
        rows = manifest.rows
        uses = Counter(row["uid"] for row in rows if row["source"] == "synthetic")
        return cls(
            whole=_share("all", rows),
            epochs=_shares(rows, lambda row: int(row["epoch"])),
            ranks=_shares(rows, lambda row: int(row["rank"])),
            workers=_shares(rows, lambda row: int(row["worker"]), _worker),
            boundary=_boundary(rows),
            classes=_classes(rows, manifest.settings.get("label_names", {})),
            strata=_strata(rows),
            statuses=dict(sorted(Counter(str(row["status"]) for row in rows).items())),
            volumes=len(uses),
            most_uses=max(uses.values(), default=0),
            loading=_loading(rows),
            prepared=_detected(manifest, "prepared") if detect else None,
            delivered=_detected(manifest, "delivered") if detect else None,
        )


def _share(name: str, rows: Iterable[Row]) -> ShareRow:
    return ShareRow(name, *share_of_synthetic(rows))


def _shares(
    rows: Sequence[Row], part: Callable[[Row], int], name: Callable[[int], str] = str
) -> tuple[ShareRow, ...]:
    parts: dict[int, list[Row]] = {}
    for row in rows:
        parts.setdefault(part(row), []).append(row)
    return tuple(_share(name(key), parts[key]) for key in sorted(parts))


def _worker(number: int) -> str:
    return "none, in the training process" if number < 0 else str(number)


def _boundary(rows: Sequence[Row]) -> float:
    """Rows are in the order of steps; a step that is not whole yet ends the comparison."""
    ends: dict[int, list[float]] = {}
    for row in rows:
        step = ends.setdefault(row["step"], [0.0, 0.0])
        step[0] += row["source"] == "synthetic"
        step[1] += row["asked"]
    apart = np.cumsum([found - asked for found, asked in ends.values()])
    return float(np.abs(apart).max(initial=0.0))


def _classes(rows: Sequence[Row], names: Mapping[str, str]) -> tuple[Exposure, ...]:
    found: dict[str, list[int]] = {name: [0, 0, 0, 0] for name in names if name != "0"}
    for row in rows:
        kind = int(row["source"] == "synthetic")
        for value, voxels in row["labels"].items():
            entry = found.setdefault(value, [0, 0, 0, 0])
            entry[kind] += 1
            entry[2 + kind] += voxels
    ordered = sorted(found, key=int)
    return tuple(Exposure(names.get(i, f"label {i}"), *found[i]) for i in ordered)


def _strata(rows: Sequence[Row]) -> tuple[Exposure, ...]:
    counts: dict[str, list[int]] = {}
    for row in rows:
        stratum = str(row.get("stratum", ""))
        if stratum:
            counts.setdefault(stratum, [0, 0])[row["source"] == "synthetic"] += 1
    return tuple(Exposure(name, *counts[name]) for name in sorted(counts))


def _loading(rows: Sequence[Row]) -> tuple[Loading, ...]:
    found = []
    for kind in ("real", "synthetic"):
        seconds = [row["seconds"] for row in rows if row["source"] == kind]
        if seconds:
            middle, slow = (float(s) for s in np.percentile(seconds, (50, 95)))
            found.append(Loading(kind, len(seconds), middle, slow))
    return tuple(found)


def _detected(manifest: Manifest, state: str) -> Detectability | None:
    """One image of each patient or volume: more of the same would leak between the folds."""
    kinds: dict[str, list[list[float]]] = {"real": [], "synthetic": []}
    for item in manifest.items.values():
        if item.get(state):
            kinds[item["source"]].append(item[state])
    if min(map(len, kinds.values())) < LEAST:
        return None
    return detectability_of(kinds["real"], kinds["synthetic"])
