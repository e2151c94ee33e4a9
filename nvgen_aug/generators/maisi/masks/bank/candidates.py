"""Candidates: the list of stored masks that NV-Generate comes with, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pathlib import PurePosixPath
from typing import Any
from typing import Final

from .....errors import DataError
from ...vocabulary import BODY_REGIONS
from .files import MaskFile

ARCHIVE: Final = "all_masks_flexible_size_and_spacing_4000"
_SHOWN = 5


def listed_masks(path: Path) -> dict[str, tuple[str, str] | None]:
    """The masks of a candidate list: their names, and the region of the body that it tells.

    Args:
        path: JSON file, such as `candidate_masks_flexible_size_and_spacing_4000.json`.

    Raises:
        DataError: It cannot be read, or is no such list.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read the list of masks {path}: {error}"
        raise DataError(msg) from error
    if not isinstance(rows, list) or not all(
        isinstance(row, Mapping) and isinstance(row.get("pseudo_label_filename"), str)
        for row in rows
    ):
        msg = f"{path} must be a list of entries with `pseudo_label_filename`, as NV-Generate's is"
        raise DataError(msg)
    found = {}
    for row in rows:
        name = PurePosixPath(row["pseudo_label_filename"].replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            msg = f"{path} names `{name}`, which leads out of the folder of the masks; correct it"
            raise DataError(msg)
        found[name.as_posix()] = _region(row)
    return found


def place_beside(path: Path) -> Path:
    """The folder or archive that belongs to a candidate list, where the download puts it.

    Raises:
        DataError: There is none.
    """
    for place in (path.parent / ARCHIVE, path.parent / f"{ARCHIVE}.zip"):
        if place.exists():
            return place
    msg = (
        f"no `{ARCHIVE}` lies beside {path}, as a folder or a zip archive; "
        "say with --files where the masks are"
    )
    raise DataError(msg)


def check_all_there(names: Mapping[str, Any], files: list[MaskFile], path: Path) -> None:
    """Refuse a list with names of files that are missing.

    Raises:
        DataError: naming them.
    """
    missing = sorted(set(names) - {file.name for file in files})
    if missing:
        some = ", ".join(f"`{name}`" for name in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        msg = (
            f"{path} names {len(missing)} of {len(names)} masks that are missing: {some}{more}; "
            "fetch the archive that belongs to it, or take them off the list"
        )
        raise DataError(msg)


def _region(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """From the one-hot rows of the first and the last region, if they are there."""
    ends = [row.get("top_region_index"), row.get("bottom_region_index")]
    if not all(isinstance(end, list) and end.count(1) == 1 and len(end) == 4 for end in ends):
        return None
    first, last = (BODY_REGIONS[end.index(1)] for end in ends if isinstance(end, list))
    return first, last
