"""Counting: the census of a real dataset, kept on disk and made again only where a case changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..errors import DataError
from ..labels import LabelMap
from ..lesions import region_volumes
from .census import CaseCount
from .census import Census
from .chance import Chance
from .schema import LABEL
from .transform_digest import transform_digest


def census(
    real: Any,
    labels: LabelMap | Mapping[str, int],
    *,
    columns: Iterable[str] | Mapping[str, Sequence[Any]] = (),
    spacing: tuple[float, float, float] | None = None,
    path: str | Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Census:
    """Count classes, lesions and their sizes in the real cases.

    A lesion is a connected region of its class (26 neighbours); its size is the
    diameter of the ball of the same volume.

    With `path`, counts are kept there and used again as long as they are of the same
    case. A case from a file (a MONAI dataset whose `data` names it under `label`) is the
    same while path, size and modification time of the label file, and the settings of the
    dataset's `transform`, are; it is then not even read. A case from memory is read each
    time and is the same while its voxels and spacing are. Other labels or columns count
    everything anew. Delete the file after a change inside a transform class of your own.

    Args:
        real: The dataset that training uses, with `len` and items with `label`
            `[1, X, Y, Z]`. Random steps in it are seeded.
        labels: Ids of the task by class name, as the `SyntheticDataset` has them.
        columns: Names of entries of the items to note, such as `"scanner"`; or a mapping
            from a column's name to one value for each case.
        spacing: Voxel edge in mm (x, y, z), for labels that are not MetaTensors.
        path: Where counts are kept, a JSON file.
        report: Called after each case with the cases done and all cases.

    Raises:
        DataError: for a label that is missing or has no spacing, and for columns
            that do not fit.
    """
    names = dict(labels.names if isinstance(labels, LabelMap) else labels)
    if not names:
        msg = "census needs at least one class, got no labels; pass for instance {'lesion': 1}"
        raise DataError(msg)
    table = _columns(columns, len(real))
    kept = _kept(path, names, tuple(table))
    stamps = _Stamps(real)
    chance = Chance(real)
    cases = []
    for number in range(len(real)):
        given = {
            name: None if values is None else str(values[number]) for name, values in table.items()
        }
        case = kept.get(stamps.of(number) or "")
        if case is None or not _agrees(case, given):
            case = _count(chance, number, names, given, spacing, stamps.of(number), kept)
        cases.append(case)
        if report is not None:
            report(number + 1, len(real))
    result = Census(names, tuple(table), tuple(cases))
    if path is not None:
        result.save(path)
    return result


class _Stamps:
    """What the cases of a dataset are known by without reading them, where that can be said."""

    def __init__(self, real: Any) -> None:
        self._data = getattr(real, "data", None)
        self._prepared = transform_digest(getattr(real, "transform", None))

    def of(self, number: int) -> str | None:
        try:
            file = Path(self._data[number][LABEL]).absolute()  # type: ignore[index]
            about = file.stat()
        except (TypeError, KeyError, IndexError, OSError):
            return None
        return f"file {file} {about.st_size} {about.st_mtime_ns} {self._prepared}"


def _kept(path: str | Path | None, names: Mapping[str, int], columns: Any) -> dict[str, CaseCount]:
    if path is None or not Path(path).exists():
        return {}
    old = Census.load(path)
    if dict(old.labels) != dict(names) or old.columns != columns:
        return {}
    return {case.identity: case for case in old.cases}


def _agrees(case: CaseCount, given: Mapping[str, str | None]) -> bool:
    return all(value is None or case.columns[name] == value for name, value in given.items())


def _columns(
    columns: Iterable[str] | Mapping[str, Sequence[Any]], length: int
) -> dict[str, Sequence[Any] | None]:
    """For each column its values, or `None` where the items have them."""
    if isinstance(columns, str):
        msg = f"columns must be a list of names or a mapping, got the text {columns!r}"
        raise DataError(msg)
    if not isinstance(columns, Mapping):
        return {str(name): None for name in columns}
    for name, values in columns.items():
        if len(values) != length:
            msg = f"column `{name}` must have a value for each of {length} cases, got {len(values)}"
            raise DataError(msg)
    return {str(name): list(values) for name, values in columns.items()}


def _count(
    chance: Chance,
    number: int,
    names: Mapping[str, int],
    given: Mapping[str, str | None],
    spacing: tuple[float, float, float] | None,
    stamp: str | None,
    kept: Mapping[str, CaseCount],
) -> CaseCount:
    with chance.of(0):
        item = chance.root[number]
    if not isinstance(item, Mapping) or LABEL not in item:
        found = sorted(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
        msg = f"real case {number} must be a mapping with `label` to be counted, got {found}"
        raise DataError(msg)
    label = item[LABEL]
    edges = _spacing(label, spacing, number)
    file = label.meta.get("filename_or_obj", "") if isinstance(label, MetaTensor) else ""
    plain = label.as_tensor() if isinstance(label, MetaTensor) else label
    voxels = np.asarray(plain.cpu() if isinstance(plain, torch.Tensor) else plain)
    if voxels.ndim != 4 or voxels.shape[0] != 1:
        msg = f"real case {number} must have a label [1, X, Y, Z], got {list(voxels.shape)}"
        raise DataError(msg)
    columns = {
        name: _value(item, label, name, number) if value is None else value
        for name, value in given.items()
    }
    named = file if isinstance(file, str) and file else f"case {number}"
    if stamp is None:
        sha = hashlib.sha256(f"{voxels.shape} {edges}\n".encode())
        sha.update(np.ascontiguousarray(voxels, dtype="<i4").tobytes())
        stamp = f"voxels {sha.hexdigest()}"
        if stamp in kept and kept[stamp].columns == columns:
            return replace(kept[stamp], name=named)
    regions = region_volumes(voxels[0], names.values(), edges)
    volumes = {name: regions[number] for name, number in names.items()}
    return CaseCount(named, stamp, volumes, columns)


def _spacing(
    label: Any, spacing: tuple[float, float, float] | None, number: int
) -> tuple[float, float, float]:
    if isinstance(label, MetaTensor):
        x, y, z = (float(edge) for edge in label.affine[:3, :3].norm(dim=0))
        return x, y, z
    if spacing is None:
        msg = (
            f"the label of real case {number} is a {type(label).__name__} without spacing, so its "
            "lesions have no size in mm; pass `spacing=`, or load it with LoadImaged"
        )
        raise DataError(msg)
    return spacing


def _value(item: Mapping[str, Any], label: Any, name: str, number: int) -> str:
    if name in item:
        return str(item[name])
    if isinstance(label, MetaTensor) and name in label.meta:
        return str(label.meta[name])
    msg = (
        f"real case {number} has no entry `{name}`; it has {sorted(map(str, item))}; pass the "
        "values as columns={...} instead"
    )
    raise DataError(msg)
