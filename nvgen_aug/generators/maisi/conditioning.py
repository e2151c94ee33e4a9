"""Conditioning: what the networks are told about the wanted volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def mask_bits(label: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """A label map as binary planes, least significant bit first.

    Args:
        label: `[B, X, Y, Z]` uint8.
        bits: Number of planes.

    Returns:
        `[B, bits, X, Y, Z]` float32, 0 or 1.
    """
    places = torch.arange(bits, dtype=torch.uint8, device=label.device)
    planes = (label[:, None] >> places[:, None, None, None]) & 1
    return planes.float()


def image_condition(latent: torch.Tensor) -> torch.Tensor:
    """What a ControlNet is told of an image: its latent, and which contrast it has.

    The contrast is not asked of the caller: mean and deviation of each channel of the latent tell
    it, and stand beside every voxel, for a convolution alone cannot see the whole.

    Args:
        latent: `[B, C, x, y, z]` of the image, scaled as the flow's are.

    Returns:
        `[B, 3 C, x, y, z]`.
    """
    mean = latent.mean(dim=(2, 3, 4), keepdim=True)
    deviation = latent.std(dim=(2, 3, 4), keepdim=True)
    return torch.cat([latent, mean.expand_as(latent), deviation.expand_as(latent)], dim=1)


def spacing_tensor(spacing: Sequence[float], batch: int = 1) -> torch.Tensor:
    """Voxel edges as the family's networks read them, mm x 100, `[B, 3]`."""
    return torch.tensor([list(spacing)], dtype=torch.float32).mul(100.0).repeat(batch, 1)


def modality_tensor(modality: int, batch: int = 1) -> torch.Tensor:
    """Modality ids `[B]`, int64."""
    return torch.full((batch,), modality, dtype=torch.int64)


def region_tensor(region: str, regions: Sequence[str], batch: int = 1) -> torch.Tensor:
    """A region of the body as the networks read it, one-hot x 100, `[B, regions]`."""
    told = torch.zeros(batch, len(regions))
    told[:, list(regions).index(region)] = 100.0
    return told
