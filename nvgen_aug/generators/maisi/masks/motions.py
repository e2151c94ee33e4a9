"""Motions: how far the tumour of each label moves when a mask is augmented, as a table.

The numbers are those of NV-Generate (`scripts/augmentation.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from types import MappingProxyType
from typing import Final
from typing import final

from ..vocabulary import BODY_ID
from ..vocabulary import TINY_BRAIN_LABELS
from .hosts import LUNG_LOBES

FIRST_TRIES: Final = 40  # after which `keep` asks for less

_BONES: Final = frozenset({*range(33, 57), *range(63, 98), 114, 127})
_BRAIN: Final = 22


@final
@dataclass(frozen=True, slots=True)
class Motion:
    """How far the tumour of one label moves.

    Args:
        hosts: Ids of the organ that it must stay in; empty for any label.
        translate: Most voxels along x, y, z.
        rotate: Most radians about x, y, z.
        scale: Most change of size along x, y, z, as a share.
        keep: Share of its voxels that must be left, in the first tries and in the last.
        is_elastic: Whether it is also bent.
        erased_to: Id of what takes its old place; `None` for the organ around it.
        tries: How many deformations are drawn before it stays where it is.
    """

    hosts: frozenset[int]
    translate: tuple[float, float, float]
    rotate: tuple[float, float, float]
    scale: tuple[float, float, float]
    keep: tuple[float, float]
    is_elastic: bool = True
    erased_to: int | None = None
    tries: int = 2 * FIRST_TRIES


def _same(value: float) -> tuple[float, float, float]:
    return value, value, value


_TURN: Final = _same(pi / 36)

# In the order in which a mask is looked at: the first that it has is moved, the others stay.
CT_MOTIONS: Final[Mapping[int, Motion]] = MappingProxyType(
    {
        128: Motion(
            _BONES,
            (5, 5, 0),
            (0, 0, 0.1),
            (0.15, 0.15, 0),
            (0.8, 0.75),
            is_elastic=False,
            erased_to=BODY_ID,
        ),
        26: Motion(frozenset({1}), _same(10), _TURN, _same(0.2), (0.8, 0.8), erased_to=1),
        23: Motion(
            frozenset(LUNG_LOBES), _same(20), (pi / 36, pi / 36, pi), _same(0.15), (0.85, 0.85)
        ),
        24: Motion(frozenset({4}), _same(15), _TURN, _same(0.1), (0.8, 0.8), erased_to=4),
        27: Motion(frozenset({62}), _same(5), _TURN, _same(0.1), (0.8, 0.75), erased_to=62),
        **{
            label: Motion(
                frozenset(), _same(3), _same(pi / 90), _same(0.2), (0.8, 0.8), erased_to=_BRAIN
            )
            for label in (401, 402, 403)
        },
    }
)

# The row for brains, with the tissues that the small model tells apart.
TINY_BRAIN_MOTIONS: Final[Mapping[int, Motion]] = MappingProxyType(
    {
        TINY_BRAIN_LABELS["lesion"]: Motion(
            frozenset({TINY_BRAIN_LABELS["grey matter"], TINY_BRAIN_LABELS["white matter"]}),
            _same(3),
            _same(pi / 90),
            _same(0.2),
            (0.8, 0.8),
        )
    }
)
