"""Guard: whether real and synthetic items fit into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import final

import torch

from ..errors import DataError
from .schema import Item

# What must agree for any two items, and for two items of one batch.
Signature = dict[str, str]


@final
class Guard:
    """Remembers the first item of each kind, and refuses one that cannot be collated with it."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: dict[int, tuple[str, Signature]] = {}

    def check(self, item: Any, kind: int, name: str) -> None:
        """Compare keys, dtypes and channels with the first item of the other kind.

        Args:
            item: What a dataset is about to hand out; of several samples, the first counts.
            kind: 1 for synthetic, 0 for real.
            name: What an error calls it.
        """
        if kind in self._first:
            return
        parts = samples(item)
        if not parts:
            return
        self._first[kind] = (name, _signature(parts[0], "channels"))
        if 1 - kind in self._first:
            other, signature = self._first[1 - kind]
            hint = (
                "make the preprocessing of the two agree: `transform` of the SyntheticDataset, "
                "and the chain of the real dataset; without labels on one side, use a variant "
                "with labels or drop `label` from the other"
            )
            _compare(other, signature, name, self._first[kind][1], hint)


def check_batch(items: Sequence[Any], names: Sequence[str]) -> None:
    """Refuse a batch whose items differ in keys, dtypes or shapes.

    Raises:
        DataError: with a table of both items.
    """
    first: tuple[str, Signature] | None = None
    for item, name in zip(items, names, strict=True):
        for part in samples(item):
            signature = _signature(part, "shape")
            if first is None:
                first = (name, signature)
            elif signature != first[1]:
                hint = (
                    "crop or pad all items to one size in `transform=`, or use batch_size=1, or "
                    "pass check=False with a collate function that pads"
                )
                _compare(*first, name, signature, hint)


def samples(item: Any) -> list[Item]:
    """The samples of an item: a MONAI multi-sample crop makes several of one."""
    return list(item) if isinstance(item, list) else [item]


def _signature(item: Item, extent: str) -> Signature:
    if not hasattr(item, "items"):
        return {"item": type(item).__name__}
    found = {}
    for key, value in item.items():
        if isinstance(value, torch.Tensor):
            size = list(value.shape) if extent == "shape" else list(value.shape[:1])
            found[str(key)] = f"{type(value).__name__} {value.dtype} {extent} {size}"
        else:
            found[str(key)] = type(value).__name__
    return found


def _compare(name: str, one: Signature, other_name: str, other: Signature, hint: str) -> None:
    differing = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
    if not differing:
        return
    left = {key: one.get(key, "(missing)") for key in differing}
    right = {key: other.get(key, "(missing)") for key in differing}
    wide = max(len(name), *map(len, left.values()))
    tall = max(3, *map(len, differing))
    table = "\n".join(
        f"  {key:<{tall}}  {a:<{wide}}  {b}"
        for key, a, b in [
            ("key", name, other_name),
            *((key, left[key], right[key]) for key in differing),
        ]
    )
    msg = f"`{name}` and `{other_name}` cannot stand in one batch:\n{table}\n{hint}"
    raise DataError(msg)
