"""Split: what a set of samples is for, and which samples may then be in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor

from ..errors import DataError
from ..schedule import Schedule
from .schema import IMAGE
from .schema import SYNTHETIC

TRAIN = "train"
SPLITS = (TRAIN, "validation", "test")


def check_split(split: str, schedule: Schedule) -> str:
    """The split, if its share of synthetic samples is legal.

    Raises:
        DataError: for an unknown split, and for synthetic samples in one that measures.
    """
    if split not in SPLITS:
        msg = f"split must be one of {SPLITS}, got {split!r}"
        raise DataError(msg)
    if split != TRAIN and schedule.most > 0:
        msg = (
            f"a {split} set holds real cases only, got ratio {schedule}; pass ratio=0, or use a "
            "SyntheticHoldout for a stress test on synthetic volumes"
        )
        raise DataError(msg)
    return split


def refuse_synthetic(item: Any, name: str, split: str) -> None:
    """Refuse a sample of the caller's real dataset that is synthetic.

    Args:
        item: What the caller's dataset or transform answered.
        name: What an error calls it.
        split: What the set is for.

    Raises:
        DataError: with the way out.
    """
    for part in item if isinstance(item, list) else [item]:
        if isinstance(part, Mapping) and _is_synthetic(part):
            hint = (
                "only a plan counts synthetic samples: give them as `synthetic=` with a `ratio`, "
                "or toss a coin in `transform=`"
                if split == TRAIN
                else "take RandSyntheticVolumed and synthetic items out of it, or use a "
                "SyntheticHoldout for a stress test"
            )
            msg = f"{name} of this {split} set is synthetic; {hint}"
            raise DataError(msg)


def _is_synthetic(item: Mapping[Any, Any]) -> bool:
    flag = item.get(SYNTHETIC, 0)
    image = item.get(IMAGE)
    name = image.meta.get("filename_or_obj", "") if isinstance(image, MetaTensor) else ""
    return bool(flag) or (isinstance(name, str) and name.startswith("nvgen:"))
