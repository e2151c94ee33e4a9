"""RealCases: the caller's dataset, which a plan speaks of by numbers."""

from __future__ import annotations

import os
from typing import Any
from typing import final

from monai.data import LMDBDataset
from monai.data import PersistentDataset
from monai.data import SmartCacheDataset
from torch.utils.data import IterableDataset

from ..errors import DataError
from ..schedule import Schedule
from .chance import Chance
from .plan import SampleKey
from .schema import real_item
from .seeds import derived_seed
from .split import refuse_synthetic


@final
class RealCases:
    """The caller's dataset, with its random transforms seeded for each item.

    Args:
        dataset: What the caller passed as `real`.
        schedule: When a case is asked for; if never, `dataset` may be `None`.
        split: What the set is for.
        check: Whether every voxel is looked at.

    Raises:
        DataError: for a dataset that cannot be asked for a case by its number, or an
            empty one.
    """

    __slots__ = ("_chance", "_check", "_split", "length")

    def __init__(self, dataset: Any, schedule: Schedule, split: str, check: bool) -> None:
        self.length = number_of_cases(dataset, schedule)
        self._chance = Chance(dataset)
        self._split = split
        self._check = check

    @property
    def dataset(self) -> Any:
        """The caller's dataset."""
        return self._chance.root

    def item(self, key: SampleKey) -> dict[str, Any]:
        """The case of a key, in the one schema.

        Raises:
            DataError: for a case that cannot be used.
        """
        return self._item(key.index, key.view_seed, "repeated" if key.stratum else "planned")

    def substitute(self, key: SampleKey) -> dict[str, Any]:
        """A case in place of a volume that failed; which one depends on the key alone.

        Raises:
            DataError: for a case that cannot be used.
        """
        case = derived_seed("substitute", key.view_seed) % self.length
        return self._item(case, key.view_seed, "substitute")

    def _item(self, case: int, view_seed: int, status: str) -> dict[str, Any]:
        with self._chance.of(derived_seed("real", view_seed)):
            # A plain integer: a MONAI dataset takes a sequence for a subset.
            try:
                raw = self._chance.root[case]
            except Exception as error:
                # Whose it is: many readers do not name the file that they failed on.
                error.add_note(f"while real case {case} was loaded{_files_of(self.dataset, case)}")
                raise
        refuse_synthetic(raw, f"real case {case}", self._split)
        return real_item(raw, case, check=self._check, status=status)


def _files_of(dataset: Any, case: int) -> str:
    """The files of a case, where a MONAI dataset has them in its data list."""
    try:
        entry = dataset.data[case]
        files = [str(value) for value in entry.values() if isinstance(value, (str, os.PathLike))]
    except (AttributeError, LookupError, TypeError):
        return ""
    return f" from {', '.join(files)}" if files else ""


def number_of_cases(real: Any, schedule: Schedule) -> int:
    """How many cases there are; 0 is legal if none is ever asked for.

    Raises:
        DataError: for a dataset that cannot be asked for a case by its number, or an
            empty one.
    """
    if isinstance(real, IterableDataset):
        msg = (
            f"real cases must have numbers, but {type(real).__name__} is an IterableDataset; "
            "use a dataset with `len` and indices, such as monai.data.CacheDataset"
        )
        raise DataError(msg)
    if isinstance(real, SmartCacheDataset):
        msg = (
            "real cases must keep their numbers, but a SmartCacheDataset puts other cases under "
            "them as it goes; use monai.data.CacheDataset or PersistentDataset"
        )
        raise DataError(msg)
    forgets = isinstance(real, PersistentDataset) and not isinstance(real, LMDBDataset)
    if forgets and not getattr(real, "track_meta", True):
        msg = (
            "a PersistentDataset drops affine and file name from the second read of a case on; "
            "pass it track_meta=True"
        )
        raise DataError(msg)
    if real is None and schedule.least == 1:
        return 0
    try:
        length = len(real)
    except TypeError as error:
        msg = (
            f"the real dataset must have `len` and indices, got {type(real).__name__}; use for "
            "instance monai.data.CacheDataset"
        )
        raise DataError(msg) from error
    if length == 0 and schedule.least < 1:
        msg = (
            "the real dataset is empty; check its data list, or pass ratio=1 to train on "
            "synthetic volumes alone"
        )
        raise DataError(msg)
    return length
