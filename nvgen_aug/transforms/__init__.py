"""Transforms: synthetic volumes inside a MONAI chain."""

from .harmonise import Harmonise
from .harmonise import HarmoniseD
from .harmonise import Harmonised
from .harmonise import HarmoniseDict
from .render_label import RandRenderLabel
from .render_label import RandRenderLabelD
from .render_label import RandRenderLabeld
from .render_label import RandRenderLabelDict
from .synthetic_volume import RandSyntheticVolume
from .synthetic_volume import RandSyntheticVolumeD
from .synthetic_volume import RandSyntheticVolumed
from .synthetic_volume import RandSyntheticVolumeDict

__all__ = [
    "Harmonise",
    "HarmoniseD",
    "HarmoniseDict",
    "Harmonised",
    "RandRenderLabel",
    "RandRenderLabelD",
    "RandRenderLabelDict",
    "RandRenderLabeld",
    "RandSyntheticVolume",
    "RandSyntheticVolumeD",
    "RandSyntheticVolumeDict",
    "RandSyntheticVolumed",
]
