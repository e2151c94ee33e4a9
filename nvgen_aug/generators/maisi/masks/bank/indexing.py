"""Indexing: every mask of a folder or archive, read once and described for the choice."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .....ball import equivalent_diameter
from .....errors import DataError
from .....errors import SpecError
from .....lesions import region_volumes
from ...variants import Variant
from ..fitting import spacing_of
from ..given_mask import body_region
from ..given_mask import check_ids
from .bank import MaskBank
from .candidates import check_all_there
from .candidates import listed_masks
from .candidates import place_beside
from .entry import BankEntry
from .files import MaskFile
from .files import MaskFiles

_PART: Final = 50  # masks after which what is known is worth keeping


@final
@dataclass(frozen=True, slots=True)
class Indexed:
    """What came of it.

    Attributes:
        bank: The masks that can be used.
        skipped: Names of files that cannot, with the reasons.
        kept: How many were known from an earlier index, and not read again.
    """

    bank: MaskBank
    skipped: Mapping[str, str]
    kept: int


def index_masks(
    place: Path,
    variant: Variant,
    *,
    files: Path | None = None,
    earlier: Iterable[BankEntry] = (),
    threads: int = 1,
    on_mask: Callable[[int, int], None] = lambda done, total: None,
    on_part: Callable[[MaskBank], None] = lambda bank: None,
) -> Indexed:
    """Read the masks of a folder, an archive or a candidate list.

    Args:
        place: A folder, a zip archive, or the candidate list that NV-Generate comes with.
        variant: Whose vocabulary the masks use.
        files: Where the masks of a candidate list lie; beside it if `None`.
        earlier: What is known of the same place: files of the same name, length and time of
            change are not read again.
        threads: How many masks are read at a time.
        on_mask: Called with how many are done, and how many there are.
        on_part: Called now and then with what is known so far, to be kept against a stop.

    Raises:
        DataError: There is no mask that can be used, or a list names masks that are missing.
    """
    is_list = place.suffix == ".json"
    told = listed_masks(place) if is_list else {}
    where = files or (place_beside(place) if is_list else place)
    masks = MaskFiles(where)
    found = masks.find()
    if is_list:
        check_all_there(told, found, place)
        found = [file for file in found if file.name in told]
    if not found:
        msg = f"{where} has no .nii or .nii.gz in it; name the folder with the masks"
        raise DataError(msg)
    known = {entry.name: entry for entry in earlier}
    entries: list[BankEntry] = []
    skipped: dict[str, str] = {}
    kept = 0

    def bank_of(part: list[BankEntry]) -> MaskBank:
        return MaskBank(variant.name, dict(variant.labels), where, tuple(part), masks)

    def read(file: MaskFile) -> BankEntry | DataError:
        old = known.get(file.name)
        if old is not None and (old.bytes, old.modified) == (file.bytes, file.modified):
            return old
        try:
            return _entry(masks, file, variant, told.get(file.name))
        except DataError as error:
            return error

    for done, (file, result) in enumerate(_mapped(read, found, threads), 1):
        if isinstance(result, DataError):
            skipped[file.name] = str(result)
        else:
            entries.append(result)
            kept += result is known.get(file.name)
        on_mask(done, len(found))
        if (len(entries) - kept) % _PART == _PART - 1:
            on_part(bank_of(entries))
    if not entries:
        why = next(iter(skipped.values()))
        msg = f"none of {len(found)} masks in {where} can be used; the first: {why}"
        raise DataError(msg)
    return Indexed(bank_of(entries), skipped, kept)


def _mapped(
    read: Callable[[MaskFile], BankEntry | DataError], files: list[MaskFile], threads: int
) -> Iterable[tuple[MaskFile, BankEntry | DataError]]:
    if threads <= 1:
        yield from ((file, read(file)) for file in files)
        return
    # A mask has up to 200 MB and an answer some kilobytes: `map` keeps answers, not masks.
    pool = ThreadPoolExecutor(threads)
    try:
        yield from zip(files, pool.map(read, files), strict=True)
    finally:
        # After Ctrl-C nobody wants the rest of them.
        pool.shutdown(cancel_futures=True)


def _entry(
    masks: MaskFiles, file: MaskFile, variant: Variant, told: tuple[str, str] | None
) -> BankEntry:
    mask = masks.read(file.name)
    label: NDArray[np.uint8] = mask.blob.array  # type: ignore[assignment]  # `read` made it so
    try:
        check_ids(label, variant)
    except SpecError as error:
        msg = f"`{file.name}`: {error}"
        raise DataError(msg) from error
    spacing = spacing_of(mask.blob.affine)
    names = {number: name for name, number in variant.labels.items()}
    counts = np.bincount(label.ravel(), minlength=256)
    voxel = float(np.prod(spacing))
    present = [number for number in range(1, 256) if counts[number]]
    boxes = ndimage.find_objects(label)
    tumours = {host.tumour for host in variant.hosts.values()} & set(present)
    regions = region_volumes(label, tumours, spacing)
    x, y, z = (int(n) for n in label.shape)
    return BankEntry(
        name=file.name,
        bytes=file.bytes,
        modified=file.modified,
        sha256=mask.sha256,
        digest=mask.blob.digest(),
        size=(x, y, z),
        spacing=spacing,
        labels={names[i]: round(float(counts[i]) * voxel, 3) for i in present},
        boxes={names[i]: _box(boxes[i - 1]) for i in present},
        tumours={
            names[i]: tuple(round(equivalent_diameter(volume), 3) for volume in volumes)
            for i, volumes in regions.items()
        },
        region=_region(label, variant) or told,
    )


def _box(slices: tuple[slice, ...]) -> tuple[int, ...]:
    return (*(int(part.start) for part in slices), *(int(part.stop) for part in slices))


def _region(label: NDArray[np.uint8], variant: Variant) -> tuple[str, str] | None:
    if variant.body is None:
        return None
    try:
        return body_region(label)
    except SpecError:
        return None
