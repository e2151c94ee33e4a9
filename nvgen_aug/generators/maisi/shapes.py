"""Shapes: the arguments that the networks of a variant are built with, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import final


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
        class_embeds: Rows of the modality embedding; `None` if the networks know no modality.
        mask_bits: Bit planes of the mask.
        residual_resampling: Whether levels are joined by residual blocks, not by convolutions.
        attention_projection: Whether attention ends in a linear layer.
        body_region: Whether the UNet is told the first and the last region of the body.
        image_channels: Width of the layers through which a second ControlNet reads the latent of
            a given image; `None` if there is none.
        image_blocks: How many residual blocks are among them.
    """

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    head_channels: tuple[int, ...]
    norm_groups: int
    condition_channels: tuple[int, ...]
    residual_blocks: int = 2
    class_embeds: int | None = 128
    mask_bits: int = 8
    residual_resampling: bool = True
    attention_projection: bool = True
    body_region: bool = False
    image_channels: int | None = None
    image_blocks: int = 3


@final
@dataclass(frozen=True, slots=True)
class MaskModelShape:
    """Arguments of the two networks that draw a mask: an autoencoder of bit planes, and a UNet.

    Attributes:
        widths: Channels of the autoencoder's levels, finest first.
        blocks: Residual blocks of the autoencoder's levels.
        groups: Groups of the autoencoder's norms.
        bits: Bit planes that it reads.
        classes: Channels that it gives, one for each label of its own numbering.
        channels, attention, head_channels, norm_groups: Of the UNet.
        context: Length of the vector of organ and tumour sizes.
        latent: Channels and voxels of the latent.
        spacing: Edge in mm of a voxel of the masks that it draws.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    groups: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    head_channels: tuple[int, ...]
    norm_groups: int
    bits: int = 8
    classes: int = 125
    context: int = 10
    latent: tuple[int, int, int, int] = (4, 64, 64, 64)
    spacing: float = 1.5


AUTOENCODER: Final = AutoencoderShape(widths=(64, 128, 256), groups=32)

RFLOW: Final = FlowShape(
    channels=(64, 128, 256, 512),
    attention=(False, False, True, True),
    head_channels=(0, 0, 32, 32),
    norm_groups=32,
    condition_channels=(8, 32, 64),
)

DDPM: Final = FlowShape(
    channels=RFLOW.channels,
    attention=RFLOW.attention,
    head_channels=RFLOW.head_channels,
    norm_groups=RFLOW.norm_groups,
    condition_channels=RFLOW.condition_channels,
    class_embeds=None,
    residual_resampling=False,
    attention_projection=False,
    body_region=True,
)

MASK_MODEL: Final = MaskModelShape(
    widths=(32, 64, 128),
    blocks=(1, 2, 2),
    groups=32,
    channels=RFLOW.channels,
    attention=RFLOW.attention,
    head_channels=RFLOW.head_channels,
    norm_groups=32,
)
