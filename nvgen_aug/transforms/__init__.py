"""Transforms: synthetic volumes inside a MONAI chain."""

from .harmonise import Harmonise
from .harmonise import HarmoniseD
from .harmonise import Harmonised
from .harmonise import HarmoniseDict
from .synthetic_volume import RandSyntheticVolume
from .synthetic_volume import RandSyntheticVolumeD
from .synthetic_volume import RandSyntheticVolumed
from .synthetic_volume import RandSyntheticVolumeDict

__all__ = [
    "Harmonise",
    "HarmoniseD",
    "HarmoniseDict",
    "Harmonised",
    "RandSyntheticVolume",
    "RandSyntheticVolumeD",
    "RandSyntheticVolumeDict",
    "RandSyntheticVolumed",
]
