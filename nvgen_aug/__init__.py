"""nvgen_aug: synthetic 3D image/mask pairs, blended into segmentation training on the fly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from .assembly import load_generator as load_generator
    from .assembly import open_source as open_source
    from .assembly import serve as serve
    from .cache import VolumeCache as VolumeCache
    from .card import VariantCard as VariantCard
    from .crop import Crop as Crop
    from .crop import CropRule as CropRule
    from .data.census import Census as Census
    from .data.counting import census as census
    from .data.holdout import SyntheticHoldout as SyntheticHoldout
    from .data.strata import Strata as Strata
    from .data.synthetic import SyntheticDataset as SyntheticDataset
    from .data.synthetic_real import SyntheticRealDataset as SyntheticRealDataset
    from .generators.phantom import PhantomGenerator as PhantomGenerator
    from .grid import Grid as Grid
    from .labels import LabelMap as LabelMap
    from .pathology import Lesions as Lesions
    from .provenance import Provenance as Provenance
    from .recipe import Recipe as Recipe
    from .record import RunRecord as RunRecord
    from .schedule import Constant as Constant
    from .schedule import Cosine as Cosine
    from .schedule import Linear as Linear
    from .schedule import Piecewise as Piecewise
    from .source import VolumeSource as VolumeSource
    from .spec import VolumeSpec as VolumeSpec
    from .transforms import Harmonise as Harmonise
    from .transforms import HarmoniseD as HarmoniseD
    from .transforms import Harmonised as Harmonised
    from .transforms import HarmoniseDict as HarmoniseDict
    from .transforms import RandRenderLabel as RandRenderLabel
    from .transforms import RandRenderLabelD as RandRenderLabelD
    from .transforms import RandRenderLabeld as RandRenderLabeld
    from .transforms import RandRenderLabelDict as RandRenderLabelDict
    from .transforms import RandSyntheticVolume as RandSyntheticVolume
    from .transforms import RandSyntheticVolumeD as RandSyntheticVolumeD
    from .transforms import RandSyntheticVolumed as RandSyntheticVolumed
    from .transforms import RandSyntheticVolumeDict as RandSyntheticVolumeDict
    from .volume import SyntheticVolume as SyntheticVolume

# Names are resolved on first use, so that `nvgen-aug --help` does not import torch.
_HOME = {
    "Census": "data.census",
    "Constant": "schedule",
    "Cosine": "schedule",
    "Crop": "crop",
    "CropRule": "crop",
    "Grid": "grid",
    "Harmonise": "transforms",
    "HarmoniseD": "transforms",
    "HarmoniseDict": "transforms",
    "Harmonised": "transforms",
    "LabelMap": "labels",
    "Lesions": "pathology",
    "Linear": "schedule",
    "PhantomGenerator": "generators.phantom",
    "Piecewise": "schedule",
    "Provenance": "provenance",
    "RandRenderLabel": "transforms",
    "RandRenderLabelD": "transforms",
    "RandRenderLabelDict": "transforms",
    "RandRenderLabeld": "transforms",
    "RandSyntheticVolume": "transforms",
    "RandSyntheticVolumeD": "transforms",
    "RandSyntheticVolumeDict": "transforms",
    "RandSyntheticVolumed": "transforms",
    "Recipe": "recipe",
    "RunRecord": "record",
    "Strata": "data.strata",
    "SyntheticDataset": "data.synthetic",
    "SyntheticHoldout": "data.holdout",
    "SyntheticRealDataset": "data.synthetic_real",
    "SyntheticVolume": "volume",
    "VariantCard": "card",
    "VolumeCache": "cache",
    "VolumeSource": "source",
    "VolumeSpec": "spec",
    "census": "data.counting",
    "load_generator": "assembly",
    "open_source": "assembly",
    "serve": "assembly",
}

__all__ = [  # the order of _HOME, so that one list serves
    *_HOME
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(_HOME)
