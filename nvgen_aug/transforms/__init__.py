"""Transforms: synthetic volumes inside a MONAI chain."""

from .synthetic_volume import RandSyntheticVolume
from .synthetic_volume import RandSyntheticVolumeD
from .synthetic_volume import RandSyntheticVolumed
from .synthetic_volume import RandSyntheticVolumeDict

__all__ = [
    "RandSyntheticVolume",
    "RandSyntheticVolumeD",
    "RandSyntheticVolumeDict",
    "RandSyntheticVolumed",
]
