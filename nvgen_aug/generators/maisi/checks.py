"""Checks: what a volume of a variant must look like under its label, as data with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Final
from typing import final

from .vocabulary import CT_LABELS
from .vocabulary import CT_MODALITIES
from .vocabulary import STRIPPED

RELEASED: Final = "NV-Generate-CTMR, image_median_statistics_ct.json"
# NV-Generate names these lesions in its check and ships no numbers for them.
HOST: Final = "the range of the host organ, widened for what lesions are; not measured"


@final
@dataclass(frozen=True, slots=True)
class MedianRange:
    """In which range the median voxel under some labels must lie.

    Attributes:
        name: What reports call it.
        labels: Label names that are taken together.
        low, high: In the voxels' unit.
        source: Where the numbers come from.
    """

    name: str
    labels: tuple[str, ...]
    low: float
    high: float
    source: str


@final
@dataclass(frozen=True, slots=True)
class Contrast:
    """By how much the median of a lesion must differ from that of what lies around it.

    Attributes:
        lesion: Label name.
        hosts: Label names that count as its surroundings.
        least: Least difference, in the voxels' unit.
        fewest: A lesion of fewer voxels is not judged: its edge is most of it.
        sides: For a modality, 1 if the lesion is the brighter and -1 if it is the darker;
            either will do for a modality that is not named.
    """

    lesion: str
    hosts: tuple[str, ...]
    least: float
    sides: Mapping[str, int] = field(default_factory=dict)
    fewest: int = 27


@final
@dataclass(frozen=True, slots=True)
class Checks:
    """All that is asked of a volume with a label, beyond being finite and not constant.

    Attributes:
        ranges: Medians of organs.
        orders: For a modality, label names from the darkest median to the brightest.
        step: Least difference between neighbours in such an order, in the voxels' unit.
        contrasts: Of lesions.
    """

    ranges: tuple[MedianRange, ...] = ()
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    step: float = 0.0
    contrasts: tuple[Contrast, ...] = ()


NO_CHECKS: Final = Checks()

_LOBES: Final = (
    "left lung upper lobe",
    "left lung lower lobe",
    "right lung upper lobe",
    "right lung middle lobe",
    "right lung lower lobe",  # upstream lists the middle lobe twice, and never looks here
)


_BONES: Final = (
    *(name for name, i in CT_LABELS.items() if 33 <= i <= 56 or 63 <= i <= 97),
    "skull",
    "sternum",
    "vertebrae S1",
)
_KIDNEYS: Final = ("right kidney", "left kidney")

# Medians in HU over the images that the diffusion model learned from. As upstream compares them:
# from the lower of -6 sigma and the 0.5th percentile to the higher of +6 sigma and the 99.5th.
_RELEASED: Final = (
    MedianRange("liver", ("liver",), -21.596, 162.0, RELEASED),
    MedianRange("spleen", ("spleen",), -43.134, 184.075, RELEASED),
    MedianRange("pancreas", ("pancreas",), -56.594, 149.506, RELEASED),
    MedianRange("kidney", _KIDNEYS, -130.564, 267.282, RELEASED),
    MedianRange("lung", _LOBES, -1088.558, -366.95, RELEASED),
    MedianRange("bone", _BONES, 71.399, 1000.0, RELEASED),
    MedianRange("brain", ("brain",), -951.0, 369.512, RELEASED),
)

# Water to enhancing tissue for soft organs, ground glass to calcified nodules in the lung, lysis
# to sclerosis in bone.
_LESIONS: Final = (
    MedianRange("hepatic tumor", ("hepatic tumor",), -50.0, 200.0, HOST),
    MedianRange("pancreatic tumor", ("pancreatic tumor",), -80.0, 180.0, HOST),
    MedianRange("colon cancer primaries", ("colon cancer primaries",), -80.0, 200.0, HOST),
    MedianRange("lung tumor", ("lung tumor",), -800.0, 250.0, HOST),
    MedianRange("bone lesion", ("bone lesion",), -100.0, 1000.0, HOST),
)

CT_CHECKS: Final = Checks(
    ranges=(*_RELEASED, *_LESIONS),
    # Tumours of soft organs may be nearly as dense as their host; what cannot be told from it at
    # all was not drawn. The lung's are nodules in air.
    contrasts=(
        Contrast("hepatic tumor", ("liver",), 3.0),
        Contrast("pancreatic tumor", ("pancreas",), 3.0),
        Contrast("lung tumor", _LOBES, 100.0, dict.fromkeys(CT_MODALITIES, 1)),
    ),
)

# Over 24 seeds (8 of each contrast, 0 to 3 lesions) neighbours in these orders were at least 93
# apart, and lesions of 27 voxels or more at least 197 from the white matter around them. Grey and
# white matter of FLAIR, 3 to 25 apart, are too near to ask for an order.
_T1, _T2, _FLAIR = (f"mri_{name}{STRIPPED}" for name in ("t1", "t2", "flair"))
BRAIN_CHECKS: Final = Checks(
    orders={
        _T1: ("csf", "grey matter", "white matter"),
        _T2: ("white matter", "grey matter", "csf"),
        _FLAIR: ("csf", "white matter"),
    },
    step=30.0,
    contrasts=(Contrast("lesion", ("white matter",), 30.0, {_T1: -1, _T2: 1, _FLAIR: 1}),),
)
