"""Hosts: in which organ each tumour of a vocabulary grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from typing import final

from ..vocabulary import CT_LABELS
from ..vocabulary import TINY_BRAIN_LABELS


@final
@dataclass(frozen=True, slots=True)
class Host:
    """Where a tumour grows.

    Args:
        tumour: Id of the tumour's label.
        organs: Ids of the labels that it may take the place of.
        name: What a message calls them.
    """

    tumour: int
    organs: frozenset[int]
    name: str


LUNG_LOBES: Final = (28, 29, 30, 31, 32)

# By the vocabulary's own name. `dummy6` (129) is the free slot that fine-tuning upstream has made
# the kidney mass of; `kidney mass` is an alias of it.
CT_HOSTS: Final[Mapping[str, Host]] = MappingProxyType(
    {
        name: Host(CT_LABELS[name], frozenset(organs), where)
        for name, organs, where in (
            ("hepatic tumor", {1}, "liver"),
            ("lung tumor", set(LUNG_LOBES), "lung lobes"),
            ("pancreatic tumor", {4}, "pancreas"),
            ("colon cancer primaries", {62}, "colon"),
            ("dummy6", {5, 14}, "kidneys"),
            ("bone lesion", {*range(33, 57), *range(63, 98), 120, 122, 127}, "bones"),
        )
    }
)

# The lesions that the small model was trained on lie in white matter.
TINY_BRAIN_HOSTS: Final[Mapping[str, Host]] = MappingProxyType(
    {
        "lesion": Host(
            TINY_BRAIN_LABELS["lesion"],
            frozenset({TINY_BRAIN_LABELS["white matter"]}),
            "white matter",
        )
    }
)
