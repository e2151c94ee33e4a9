"""Real cases: what the caller's dataset must be, so that a plan can speak of it by numbers."""

from __future__ import annotations

from typing import Any

from monai.data import LMDBDataset
from monai.data import PersistentDataset
from monai.data import SmartCacheDataset
from torch.utils.data import IterableDataset

from ..errors import DataError
from ..schedule import Schedule


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
