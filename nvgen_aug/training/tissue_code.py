"""Tissue code: where the mask encoder begins, so that it need not find out what a bit plane is.

The code tells how much of each tissue a latent voxel has, and on which side of it. From random
weights the first thousands of steps would go into telling grey from white matter, which differ in
one bit of the mask, while the outline of the brain alone explains most of an image.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

# swish(8) is 7.997: from here on the activation hands on what it gets.
_FAR: Final = 8.0


def start_as_tissue_code(encoder: nn.Module) -> None:
    """Give a mask encoder of widths 8, 16, 32 and 28 outputs or more these weights.

    The first convolution makes tissues of bit planes, the strided ones take means and differences
    along the axes, at both their scales, and all others hand on what they get. Everything runs far
    above zero, where the activation is the identity.

    Args:
        encoder: `controlnet_cond_embedding` of a ControlNet, six convolutions with SiLU between.
    """
    first, keep, halve, keep_again, halve_again, last = (
        module for module in encoder.modules() if isinstance(module, nn.Conv3d)
    )
    if not bool(last.weight.any()):
        last.reset_parameters()  # it is zero as built, for networks that must not change at once
    with torch.no_grad():
        # CSF is 001, grey matter 010, white matter 011, lesion 100; least significant bit first.
        first.weight[:4] = 0.0
        bits = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        first.weight[:4, :3, 1, 1, 1] = _FAR * bits
        first.bias[:4] = _FAR * torch.tensor([0.0, 0.0, -1.0, 0.0])  # type: ignore[index]
        for convolution, count in ((keep, 4), (keep_again, 16)):
            convolution.weight[:count] = 0.0
            convolution.weight[:count, :count, 1, 1, 1] = torch.eye(count)
            convolution.bias[:count] = 0.0  # type: ignore[index]
        moments = _moments()
        halve.weight[:16] = 0.0
        halve.bias[:16] = _FAR  # type: ignore[index]
        halve_again.weight[:28] = 0.0
        halve_again.bias[:28] = _FAR  # type: ignore[index]
        for tissue in range(4):
            for moment in range(4):
                halve.weight[4 * tissue + moment, tissue] = moments[moment]
                halve_again.weight[4 * tissue + moment, 4 * tissue] = moments[moment]
            for axis in range(3):
                halve_again.weight[16 + 3 * tissue + axis, 4 * tissue + 1 + axis] = moments[0]
            for channel in (4 * tissue, *(16 + 3 * tissue + axis for axis in range(3))):
                halve_again.bias[channel] = 0.0  # type: ignore[index]  # means are far from zero
        last.weight.mul_(0.05)
        last.weight[:28, :28, 1, 1, 1] += torch.eye(28) / 2
        last.bias[:28] = -_FAR / 2  # type: ignore[index]


def _moments() -> torch.Tensor:
    """Mean and differences along x, y, z of two voxels each way, as strided kernels `[4, 3³]`."""
    kernels = torch.zeros(4, 3, 3, 3)
    kernels[0, 1:, 1:, 1:] = 1 / 8
    for axis in range(3):
        pair = kernels[0].movedim(axis, 0).clone()
        pair[1].neg_()
        kernels[1 + axis] = pair.movedim(0, axis)
    return kernels
