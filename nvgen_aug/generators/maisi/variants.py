"""Variants: the members of the model family, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from typing import final

from .vocabulary import SKULL_STRIPPED_MODALITIES
from .vocabulary import TINY_BRAIN_LABELS


@final
@dataclass(frozen=True, slots=True)
class AutoencoderShape:
    """Arguments of the autoencoder: channels of its levels, finest first, and norm groups."""

    widths: tuple[int, ...]
    groups: int
    latent: int = 4


@final
@dataclass(frozen=True, slots=True)
class FlowShape:
    """Arguments of the flow's UNet and of the ControlNet that shares its trunk.

    Attributes:
        channels: Of the levels, finest first.
        attention: Which levels have self-attention.
        head_channels: Channels of one attention head, for each level.
        norm_groups: Groups of every norm.
        condition_channels: Channels of the mask's encoder; each but the first halves the edge.
        residual_blocks: In every level.
        class_embeds: Rows of the modality embedding.
        mask_bits: Bit planes of the mask.
    """

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    head_channels: tuple[int, ...]
    norm_groups: int
    condition_channels: tuple[int, ...]
    residual_blocks: int = 2
    class_embeds: int = 128
    mask_bits: int = 8


@final
@dataclass(frozen=True, slots=True)
class IntensityMap:
    """Network values to int16 voxels: `value * scale + shift`, at least `lowest`.

    Attributes:
        unit: What a voxel means.
        background: The voxel value outside the mask.
    """

    scale: float
    shift: float
    lowest: int
    background: int
    unit: str


@final
@dataclass(frozen=True, slots=True)
class Variant:
    """One member of the family: what its networks are and what it can be asked for.

    Attributes:
        name: As in a spec.
        revision: Changes when the same weights would give other voxels.
        folder: Where its weights lie, if they come with this package.
        autoencoder: Shape of the autoencoder.
        flow: Shape of the flow networks.
        labels: Label names and ids.
        modalities: Modality names and ids.
        default_modality: One of them.
        size: Default voxels along x, y, z.
        legal_sizes: What can be asked for along each axis.
        spacing: Default voxel edge in mm.
        spacing_range: Least and greatest.
        pathology: Labels that can be placed with a diameter.
        pathology_range: Least and greatest diameter in mm.
        intensity: How voxels are made of network values.
        licence: Of the weights.
        solver: Default solver of the flow.
        steps: Default number of evaluations of the flow by that solver.
        compression: Image voxels for one latent voxel along an axis.
    """

    name: str
    revision: str
    folder: Path
    autoencoder: AutoencoderShape
    flow: FlowShape
    labels: Mapping[str, int]
    modalities: Mapping[str, int]
    default_modality: str
    size: tuple[int, int, int]
    legal_sizes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    spacing: tuple[float, float, float]
    spacing_range: tuple[float, float]
    pathology: tuple[str, ...]
    pathology_range: tuple[float, float]
    intensity: IntensityMap
    licence: str
    solver: str = "euler"
    steps: int = 30
    compression: int = 4


MR_INTENSITY: Final = IntensityMap(
    scale=1000.0, shift=0.0, lowest=0, background=0, unit="network value x 1000"
)

TINY_BRAIN: Final = Variant(
    name="tiny-brain",
    revision="tiny-brain-2",
    folder=Path(__file__).parent / "tiny_brain",
    autoencoder=AutoencoderShape(widths=(8, 16, 64), groups=2),
    flow=FlowShape(
        channels=(32, 48, 64, 64),
        attention=(False, False, True, True),
        head_channels=(0, 0, 32, 32),
        norm_groups=16,
        condition_channels=(8, 16, 32),
    ),
    labels=TINY_BRAIN_LABELS,
    modalities=SKULL_STRIPPED_MODALITIES,
    default_modality="mri_t1_skull_stripped",
    size=(64, 64, 64),
    legal_sizes=((64,), (64,), (64,)),
    spacing=(3.0, 3.0, 3.0),
    spacing_range=(3.0, 3.0),
    pathology=("lesion",),
    pathology_range=(4.0, 25.0),
    intensity=MR_INTENSITY,
    licence="Apache-2.0",
)

VARIANTS: Final[Mapping[str, Variant]] = {TINY_BRAIN.name: TINY_BRAIN}
