"""Variants: the members of the model family, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Final
from typing import final

from ...envelope import Envelope
from . import releases
from . import shapes
from .checks import BRAIN_CHECKS
from .checks import CT_CHECKS
from .checks import NO_CHECKS
from .checks import Checks
from .envelope import BRAIN_ENVELOPE
from .envelope import CT_ENVELOPE
from .envelope import MR_ENVELOPE
from .masks.hosts import CT_HOSTS
from .masks.hosts import TINY_BRAIN_HOSTS
from .masks.hosts import Host
from .masks.motions import CT_MOTIONS
from .masks.motions import TINY_BRAIN_MOTIONS
from .masks.motions import Motion
from .releases import Licence
from .releases import Release
from .shapes import AutoencoderShape
from .shapes import FlowShape
from .shapes import MaskModelShape
from .vocabulary import BODY
from .vocabulary import BODY_REGIONS
from .vocabulary import BRAIN_MODALITIES
from .vocabulary import CT_ALIASES
from .vocabulary import CT_LABELS
from .vocabulary import CT_MODALITIES
from .vocabulary import MR_MODALITIES
from .vocabulary import SKULL_STRIPPED_MODALITIES
from .vocabulary import TINY_BRAIN_LABELS

Window = tuple[tuple[int, int, int], float]


@final
@dataclass(frozen=True, slots=True)
class IntensityMap:
    """Network values to int16 voxels: `value * scale + shift`, at least `lowest`.

    Attributes:
        unit: What a voxel means.
        background: The voxel value outside the mask.
        highest: Greatest voxel value.
    """

    scale: float
    shift: float
    lowest: int
    background: int
    unit: str
    highest: int = 32767


@final
@dataclass(frozen=True, slots=True)
class Variant:
    """One member of the family: what its networks are and what it can be asked for.

    Attributes:
        name: As in a spec.
        revision: Changes when the same weights would give other voxels.
        folder: Where its weights lie if they come with this package, else `None`.
        autoencoder: Shape of the autoencoder.
        flow: Shape of the UNet, and of the ControlNet if there is one.
        labels: Label names and ids.
        modalities: Modality names and ids.
        default_modality: One of them.
        size: Default voxels along x, y, z.
        legal_sizes: What can be asked for along each axis.
        spacing: Default voxel edge in mm.
        spacing_range: Least and greatest.
        hosts: Labels that can be placed with a diameter, and where they grow.
        motions: How far the tumour of each label moves when a mask is augmented.
        pathology_range: Least and greatest diameter in mm.
        intensity: How voxels are made of network values.
        licence: Of the weights.
        solver: Default solver of the flow; `ddpm` if it is no flow.
        steps: Default number of evaluations of the flow by that solver.
        compression: Image voxels for one latent voxel along an axis.
        guidance: Default scale of guidance on the modality.
        guides_tumours: Whether guidance also leads an image away from its mask without tumours.
        has_control: Whether a mask can steer the image.
        draws_labels: Whether it makes a mask itself when none is given, with no network for it.
        body: Name of the label that must surround all others in a mask.
        aliases: Other names of labels.
        body_regions: Names of the regions that the UNet is told, from head to foot.
        mask_model: Shape of the networks that draw masks.
        mask_steps: Default number of evaluations of the one that draws their latent.
        envelope: What it was trained on; `None` if `legal_sizes` says it all.
        release: Where its weights come from; `None` if they come with this package.
        checks: What its volumes with a label must look like.
        window_alone, window_paired: How reference numerics decode an image alone, and one
            under a mask: edges in latent voxels, and share that neighbours have in common.
    """

    name: str
    revision: str
    folder: Path | None
    autoencoder: AutoencoderShape
    flow: FlowShape
    labels: Mapping[str, int]
    modalities: Mapping[str, int]
    default_modality: str
    size: tuple[int, int, int]
    legal_sizes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    spacing: tuple[float, float, float]
    spacing_range: tuple[float, float]
    hosts: Mapping[str, Host]
    motions: Mapping[int, Motion]
    pathology_range: tuple[float, float]
    intensity: IntensityMap
    licence: Licence
    solver: str = "euler"
    steps: int = 30
    compression: int = 4
    guidance: float = 0.0
    guides_tumours: bool = False
    has_control: bool = True
    draws_labels: bool = True
    body: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    body_regions: tuple[str, ...] = ()
    mask_model: MaskModelShape | None = None
    mask_steps: int = 1000
    envelope: Envelope | None = None
    release: Release | None = None
    checks: Checks = NO_CHECKS
    window_alone: Window = ((80, 80, 80), 0.4)
    window_paired: Window = ((48, 48, 48), 0.6666)


MR_INTENSITY: Final = IntensityMap(
    scale=1000.0, shift=0.0, lowest=0, background=0, unit="network value x 1000"
)

TINY_BRAIN: Final = Variant(
    name="tiny-brain",
    revision="tiny-brain-4",
    folder=Path(__file__).parent / "tiny_brain",
    autoencoder=AutoencoderShape(widths=(8, 16, 64), groups=2),
    flow=FlowShape(
        channels=(32, 48, 64, 64),
        attention=(False, False, True, True),
        head_channels=(0, 0, 32, 32),
        norm_groups=16,
        condition_channels=(8, 16, 32),
        image_channels=64,
    ),
    labels=TINY_BRAIN_LABELS,
    modalities=SKULL_STRIPPED_MODALITIES,
    default_modality="mri_t1_skull_stripped",
    size=(64, 64, 64),
    legal_sizes=((64,), (64,), (64,)),
    spacing=(3.0, 3.0, 3.0),
    spacing_range=(3.0, 3.0),
    hosts=TINY_BRAIN_HOSTS,
    motions=TINY_BRAIN_MOTIONS,
    pathology_range=(4.0, 25.0),
    intensity=MR_INTENSITY,
    licence=releases.APACHE,
    # No farther from the end of the flow than Euler at 30: benchmarks/results/solvers.md.
    solver="ab2",
    steps=12,
    checks=BRAIN_CHECKS,
)

# A volume outside [-1000, 1000] HU does not exist in the family.
CT_INTENSITY: Final = IntensityMap(
    scale=2000.0, shift=-1000.0, lowest=-1000, background=-1000, unit="HU", highest=1000
)


def _multiples(most: int) -> tuple[int, ...]:
    # Four to one in the autoencoder, eight to one in the UNet.
    return tuple(range(32, most + 1, 32))


RFLOW_CT: Final = Variant(
    name="rflow-ct",
    revision="maisi-2",
    folder=None,
    autoencoder=shapes.AUTOENCODER,
    flow=shapes.RFLOW,
    labels=CT_LABELS,
    modalities=CT_MODALITIES,
    default_modality="ct",
    size=(256, 256, 256),
    legal_sizes=(_multiples(512), _multiples(512), _multiples(768)),
    spacing=(1.5, 1.5, 1.5),
    spacing_range=(0.2, 10.0),
    hosts=CT_HOSTS,
    motions=CT_MOTIONS,
    pathology_range=(1.0, 100.0),
    intensity=CT_INTENSITY,
    licence=releases.OPEN_MODEL,
    draws_labels=False,
    guides_tumours=True,
    body=BODY,
    aliases=CT_ALIASES,
    checks=CT_CHECKS,
    mask_model=shapes.MASK_MODEL,
    envelope=CT_ENVELOPE,
    release=releases.RFLOW_CT,
)

DDPM_CT: Final = replace(
    RFLOW_CT,
    name="ddpm-ct",
    solver="ddpm",
    flow=shapes.DDPM,
    modalities={"ct": CT_MODALITIES["ct"]},
    steps=1000,
    body_regions=BODY_REGIONS,
    release=releases.DDPM_CT,
)

# Upstream's configurations guide by 15 and by 2; its manual recommends 10 for both.
RFLOW_MR: Final = replace(
    RFLOW_CT,
    name="rflow-mr",
    labels={},
    hosts={},
    motions={},
    modalities=MR_MODALITIES,
    default_modality="mri_t1",
    size=(128, 256, 256),
    legal_sizes=(_multiples(512), _multiples(512), _multiples(256)),
    spacing=(1.25, 1.0, 1.0),
    intensity=MR_INTENSITY,
    licence=releases.NON_COMMERCIAL,
    guidance=15.0,
    guides_tumours=False,
    has_control=False,
    body=None,
    aliases={},
    checks=NO_CHECKS,
    mask_model=None,
    envelope=MR_ENVELOPE,
    release=releases.RFLOW_MR,
)

RFLOW_MR_BRAIN: Final = replace(
    RFLOW_MR,
    name="rflow-mr-brain",
    modalities=BRAIN_MODALITIES,
    size=(256, 256, 128),
    spacing=(0.94, 0.94, 1.36),
    licence=releases.OPEN_MODEL,
    guidance=2.0,
    envelope=BRAIN_ENVELOPE,
    release=releases.RFLOW_MR_BRAIN,
)

VARIANTS: Final[Mapping[str, Variant]] = {
    variant.name: variant for variant in (TINY_BRAIN, DDPM_CT, RFLOW_CT, RFLOW_MR, RFLOW_MR_BRAIN)
}
