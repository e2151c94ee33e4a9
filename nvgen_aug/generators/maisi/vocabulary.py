"""Vocabulary: label names and modality names of the family, with their ids."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TINY_BRAIN_LABELS: Final[Mapping[str, int]] = MappingProxyType(
    {"background": 0, "csf": 1, "grey matter": 2, "white matter": 3, "lesion": 4}
)

# The ids that the family's modality embedding uses; 0 is "unknown", the unguided branch.
UNKNOWN_MODALITY: Final = 0
SKULL_STRIPPED_MODALITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "mri_t1_skull_stripped": 29,
        "mri_t2_skull_stripped": 30,
        "mri_flair_skull_stripped": 31,
    }
)
