"""Guard: whether real and synthetic items fit into one batch, and into one training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from typing import final

import torch
from torch.utils.data import get_worker_info

from ..errors import DataError
from .greys import Greys
from .likeness import Likeness
from .schema import IMAGE
from .schema import Item

# What must agree for any two items, and for two items of one batch.
Signature = dict[str, str]


@final
class Guard:
    """Remembers the first item of each kind, and refuses one that does not go with it.

    Each process looks for itself, once: at the first item of each kind, and at the
    brightness of the first few.

    Args:
        ids: Label ids that synthetic items can have; `None` if real ones may have any.
    """

    __slots__ = ("_first", "_greys", "_ids", "_likeness")

    def __init__(self, ids: frozenset[int] | None = None) -> None:
        self._ids = ids
        self._first: dict[int, tuple[str, Signature]] = {}
        self._likeness: dict[int, tuple[str, Likeness]] = {}
        self._greys = Greys()

    def check_prepared(self, item: Item, kind: int, name: str) -> None:
        """Compare spacing, orientation and label ids with the first item of the other kind.

        That is done before the augmentation of both kinds, which may turn and stretch.

        Args:
            item: Image and label, each kind's own preprocessing done.
            kind: 1 for synthetic, 0 for real.
            name: What an error calls it.

        Raises:
            DataError: with a table of both items.
        """
        if kind in self._likeness:
            return
        self._likeness[kind] = (name, Likeness.of(item))
        if 1 - kind not in self._likeness:
            return
        (one, real), (other, synthetic) = self._likeness[0], self._likeness[1]
        rows = real.differing(synthetic)
        if rows:
            _refuse(
                one,
                other,
                rows,
                "should not stand in one batch",
                "bring both to one grid, for instance with Orientationd and Spacingd in the chain "
                "of the real dataset and in `transform=` of the SyntheticDataset, or ask the "
                "recipe for this spacing; check=False mixes them all the same",
            )
        strange = _strange_ids(real.ids, synthetic.ids, self._ids)
        if strange:
            ids = (_listed(real.ids), _listed(self._ids))
            _refuse(
                one,
                other,
                [("label ids", *ids)],
                "have other labels",
                f"{_listed(strange)} of the real label cannot occur in a synthetic one, where such "
                "tissue would be called background; add it to the LabelMap, or pass "
                'others="ignore" and leave `ignore_index` out of the loss; check=False mixes them '
                "all the same",
            )

    def check(self, item: Any, kind: int, name: str, *, warn: bool = True) -> None:
        """Compare keys, dtypes and channels with the first item of the other kind.

        Args:
            item: What a dataset is about to hand out; of several samples, the first counts.
            kind: 1 for synthetic, 0 for real.
            name: What an error calls it.
            warn: Whether to say that the images of the two kinds differ in brightness; of
                the workers of a loader, the first speaks for all.

        Raises:
            DataError: with a table of both items.
        """
        worker = get_worker_info()
        warn = warn and (worker is None or worker.id == 0)
        if kind in self._first and (self._greys.is_done or not warn):
            return
        parts = samples(item)
        if not parts:
            return
        if warn and hasattr(parts[0], "items") and isinstance(parts[0].get(IMAGE), torch.Tensor):
            complaint = self._greys.add(parts[0][IMAGE], kind)
            if complaint:
                warnings.warn(complaint, stacklevel=2)
        if kind in self._first:
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


def _strange_ids(
    real: frozenset[int] | None, synthetic: frozenset[int] | None, possible: frozenset[int] | None
) -> frozenset[int]:
    """Real ids that tell that the two labels do not mean the same."""
    if not real or synthetic is None or possible is None:
        return frozenset()
    if synthetic <= possible:
        return real - possible
    # The caller's transform gave other ids: all that can be said is that none is shared.
    return real if synthetic and not real & synthetic else frozenset()


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
    missing = "(missing)"
    rows = [(key, one.get(key, missing), other.get(key, missing)) for key in differing]
    _refuse(name, other_name, rows, "cannot stand in one batch", hint)


def _refuse(
    name: str, other_name: str, rows: Sequence[tuple[str, str, str]], what: str, hint: str
) -> None:
    table = [("", name, other_name), *rows]
    tall, wide = (max(len(row[column]) for row in table) for column in (0, 1))
    lines = "\n".join(f"  {key:<{tall}}  {a:<{wide}}  {b}" for key, a, b in table)
    msg = f"`{name}` and `{other_name}` {what}:\n{lines}\n{hint}"
    raise DataError(msg)


def _listed(ids: frozenset[int] | None) -> str:
    shown = sorted(ids or ())
    text = ", ".join(map(str, shown[:12]))
    return f"{text}, … {shown[-1]}" if len(shown) > 12 else text or "none"
