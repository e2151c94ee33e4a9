"""Fused norm: group norm and SiLU in one pass each for statistics and result, channels last.

torch's group norm on a GPU wants channels first, so that a network in the layout which its
convolutions are fastest in converts there and back at every norm. The two kernels here stay in
that layout: the first measures every channel over blocks of voxels, the second applies norm,
scale, shift and SiLU. Where they cannot run, torch's own operators do, equal to rounding.
"""

from __future__ import annotations

from typing import Final
from typing import final

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock
from torch import nn
from torch.nn import functional

try:
    import triton  # type: ignore[import-not-found,unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # torch's builds for a processor come without it
    triton = None

# Of a block: 32 for each thread of four warps, which registers hold.
_ELEMENTS: Final = 4096


def group_norm_silu(
    x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """`silu(group_norm(x))`, `[B, C, x, y, z]`, in the type and layout of `x`.

    Statistics are computed in fp32, from sums of values and of squares.
    """
    if not has_kernel(x):
        return functional.silu(functional.group_norm(x, groups, weight, bias, eps))
    return _by_kernel(x, groups, weight, bias, eps)


def has_kernel(x: torch.Tensor) -> bool:
    """Whether the kernels take this tensor: on a GPU, five axes, channels last, nobody tracing.

    A compiler fuses torch's operators itself, and an exporter knows no kernel of ours.
    """
    return (
        triton is not None
        and x.is_cuda
        and not torch.compiler.is_compiling()
        and x.ndim == 5
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def fuse_norms(network: nn.Module) -> None:
    """Let the residual blocks of a flow network compute norm and SiLU as one."""
    for module in network.modules():
        if type(module) is DiffusionUNetResnetBlock:
            module.__class__ = FusedResnetBlock


@final
class FusedResnetBlock(DiffusionUNetResnetBlock):
    """MONAI's residual block, with norm and SiLU as one operation."""

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        h = _normed(self.norm1, x)
        resize = self.downsample if self.upsample is None else self.upsample
        if resize is not None:
            x, h = resize(x), resize(h)
        h = self.conv1(h)
        h = h + self.time_emb_proj(functional.silu(emb))[:, :, None, None, None]
        result: torch.Tensor = self.skip_connection(x) + self.conv2(_normed(self.norm2, h))
        return result


def _normed(norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
    return group_norm_silu(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _by_kernel(
    x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    batch, channels = x.shape[:2]
    voxels = x[0, 0].numel()
    lanes = triton.next_power_of_2(channels)
    rows = max(4, _ELEMENTS // lanes)
    blocks = triton.cdiv(voxels, rows)
    # Means and squared deviations by block are added up in a fixed order, which atomic sums would
    # not be: equal specs must give equal bytes.
    parts = torch.empty(batch, blocks, 2, channels, dtype=torch.float32, device=x.device)
    _measure[(blocks, batch)](x, parts, voxels, channels, ROWS=rows, LANES=lanes)
    counts = torch.full((blocks, 1, 1), float(rows), device=x.device)
    counts[-1] = voxels - rows * (blocks - 1)
    means, squares = parts.reshape(batch, blocks, 2, groups, channels // groups).unbind(2)
    number = voxels * (channels // groups)
    mean = (counts * means).sum((1, 3), keepdim=True) / number
    between = (counts * (means - mean).square()).sum((1, 3))
    variance = (squares.sum((1, 3)) + between) / number
    width = channels // groups
    factor = torch.rsqrt(variance + eps).repeat_interleave(width, 1)
    scale = weight.float() * factor
    shift = bias.float() - mean.reshape(batch, groups).repeat_interleave(width, 1) * scale
    result = torch.empty_like(x)
    _apply[(blocks, batch)](x, result, scale, shift, voxels, channels, ROWS=rows, LANES=lanes)
    return result


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _measure(x, parts, voxels, channels, ROWS: tl.constexpr, LANES: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        """Mean and sum of squared deviations of every channel over a block of voxels."""
        block, sample = tl.program_id(0), tl.program_id(1)
        rows, lanes = block * ROWS + tl.arange(0, ROWS), tl.arange(0, LANES)
        # 64 bits: a large volume has more elements than 32 can count.
        start = (sample.to(tl.int64) * voxels + rows[:, None]) * channels
        inside = (rows[:, None] < voxels) & (lanes[None, :] < channels)
        values = tl.load(x + start + lanes[None, :], mask=inside, other=0.0).to(tl.float32)
        count = tl.minimum(voxels - block * ROWS, ROWS).to(tl.float32)
        mean = tl.sum(values, axis=0) / count
        away = tl.where(inside, values - mean[None, :], 0.0)
        place = parts + (sample * tl.num_programs(0) + block).to(tl.int64) * 2 * channels + lanes
        tl.store(place, mean, mask=lanes < channels)
        tl.store(place + channels, tl.sum(away * away, axis=0), mask=lanes < channels)

    @triton.jit  # type: ignore[untyped-decorator]
    def _apply(x, result, scale, shift, voxels, channels, ROWS: tl.constexpr, LANES: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        """`silu(scale * x + shift)` by sample and channel."""
        block, sample = tl.program_id(0), tl.program_id(1)
        rows, lanes = block * ROWS + tl.arange(0, ROWS), tl.arange(0, LANES)
        start = (sample.to(tl.int64) * voxels + rows[:, None]) * channels
        inside = (rows[:, None] < voxels) & (lanes[None, :] < channels)
        values = tl.load(x + start + lanes[None, :], mask=inside, other=0.0).to(tl.float32)
        row = sample * channels + lanes
        factor = tl.load(scale + row, mask=lanes < channels, other=0.0)
        summand = tl.load(shift + row, mask=lanes < channels, other=0.0)
        values = values * factor[None, :] + summand[None, :]
        values = values / (1.0 + tl.exp(-values))
        tl.store(result + start + lanes[None, :], values.to(result.dtype.element_ty), mask=inside)
