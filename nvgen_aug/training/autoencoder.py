"""Autoencoder stage: images to latents and back, learned on whole brains."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..generators.maisi.decoder import Decoder
from ..generators.maisi.layers import ResidualBlock
from ..generators.maisi.networks import Autoencoder
from .pool import Pool
from .run import Run
from .run import StageSettings

LESION_WEIGHT: Final = 6.0
BACKGROUND_WEIGHT: Final = 0.2
KL_WEIGHT: Final = 2e-5

# Steps are what the start needs, so it sees cubes of this edge from inside the brain; then comes
# the brain's bounding box, and last whole volumes, because the statistics of the norms are those of
# what they see.
_CUBE: Final = 32
_BOXES_FROM: Final = 0.5
_WHOLE_VOLUMES_FROM: Final = 0.8

# Two, not one: for a batch of one, torch sends convolutions of small inputs to a slower kernel.
_BATCH: Final = 2


def train_autoencoder(
    network: Autoencoder,
    pool: Pool,
    settings: StageSettings,
) -> Run:
    """Train `network` within its minutes; the run holds the averaged weights."""
    start_as_linear_code(network, pool)
    network.to(settings.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = Run(
        "autoencoder",
        network,
        settings,
        learning_rate=2e-3,
    )
    rng = np.random.default_rng((settings.seed, 1, run.step))
    noise = torch.Generator(settings.device).manual_seed(settings.seed + run.step)
    for fraction in run:
        image, label = _draw(pool, rng, view=_view(fraction))
        image = image.to(settings.device).contiguous(memory_format=torch.channels_last_3d)
        mean, deviation = network.encode(image)
        draw = torch.randn(mean.shape, generator=noise, device=settings.device)
        restored = network.decode(mean + deviation * draw)
        weight = torch.ones_like(image)
        weight[label.to(settings.device) == 0] = BACKGROUND_WEIGHT
        weight[label.to(settings.device) == 4] = LESION_WEIGHT
        error = (weight * (restored - image).square()).sum() / weight.sum()
        kl = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        run.update(error + KL_WEIGHT * kl)
    return run


def _view(fraction: float) -> str:
    if fraction < _BOXES_FROM:
        return "cube"
    return "box" if fraction < _WHOLE_VOLUMES_FROM else "whole"


def start_as_linear_code(network: Autoencoder, pool: Pool) -> None:
    """Begin with an encoder that is the principal-component code of 4x4x4 blocks.

    Every residual block starts as its shortcut (its second convolution is zero), so the encoder is
    linear; its two strided convolutions can then gather a block's 64 voxels and project them. From
    random weights the first several hundred steps would go into finding this code, and a posterior
    of unit width would drown it meanwhile.
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.conv.conv.weight)
            nn.init.zeros_(module.conv2.conv.conv.bias)  # type: ignore[arg-type]
    components = torch.from_numpy(_whitening(pool))  # [64, 4, 4, 4]
    convolutions = {n: m for n, m in network.encoder.named_modules() if isinstance(m, nn.Conv3d)}
    first, halve, widen, halve_again, widen_again, last = (
        convolutions[f"blocks.{key}"]
        for key in (
            "0.conv.conv",
            "3.conv.conv.conv",
            "4.nin_shortcut.conv.conv",
            "6.conv.conv.conv",
            "7.nin_shortcut.conv.conv",
            "10.conv.conv",
        )
    )
    with torch.no_grad():
        for convolution in (halve, halve_again, last):
            convolution.weight.zero_()
            convolution.bias.zero_()  # type: ignore[union-attr]
        first.weight[0] = 0.0
        first.weight[0, 0, 1, 1, 1] = 1.0
        first.bias[0] = 0.0  # type: ignore[index]
        phases = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        for channel, (i, j, k) in enumerate(phases):
            halve.weight[channel, 0, i, j, k] = 1.0
            projected = components[: halve_again.out_channels, i::2, j::2, k::2]
            halve_again.weight[:, channel, :2, :2, :2] = projected
        for convolution in (widen, widen_again):
            kept = convolution.in_channels
            convolution.weight[:kept] = torch.eye(kept)[:, :, None, None, None]
            convolution.bias[:kept] = 0.0  # type: ignore[index]
        # A group norm makes every volume equally bright, unless part of its group is constant. So
        # the last norms get channels that are constants, which anchor the others.
        groups = network.decoder.norms()[-1].num_groups
        grouped = widen_again.bias.view(groups, -1)  # type: ignore[union-attr]
        grouped[:, -6::2], grouped[:, -5::2] = 3.0, -3.0
        _start_as_interpolation(network.decoder, groups)
        for channel in range(last.out_channels):
            last.weight[channel, channel, 1, 1, 1] = 1.0
        for kernel in (network.quant_conv_mu, network.post_quant_conv):
            kernel.conv.weight.copy_(torch.eye(last.out_channels)[:, :, None, None, None])
            kernel.conv.bias.zero_()  # type: ignore[union-attr]
        network.quant_conv_log_sigma.conv.weight.zero_()
        network.quant_conv_log_sigma.conv.bias.fill_(-5.0)  # type: ignore[union-attr]


def _start_as_interpolation(decoder: Decoder, groups: int) -> None:
    """Let the latent's channels reach the last norm, interpolated and otherwise as they are."""
    layers = {n: m for n, m in decoder.named_modules() if isinstance(m, nn.Conv3d)}
    for name in ("0.conv.conv", "3.conv.conv.conv", "6.conv.conv.conv", "4.nin_shortcut.conv.conv"):
        layer = layers[f"blocks.{name}"]
        layer.weight *= 0.5
        layer.bias.zero_()  # type: ignore[union-attr]
        middle = layer.kernel_size[0] // 2
        for channel in range(min(layer.in_channels, layer.out_channels)):
            layer.weight[channel, channel, middle, middle, middle] += 1.0
    narrow = layers["blocks.7.nin_shortcut.conv.conv"]
    width = narrow.out_channels // groups
    grouped = narrow.bias.view(groups, width)  # type: ignore[union-attr]
    grouped.zero_()
    grouped[:, -1], grouped[:, -2] = 1.5, -1.5
    free = [c for c in range(narrow.out_channels) if c % width < width - 2]
    for source, channel in enumerate(free):
        narrow.weight[channel] = 0.0
        narrow.weight[channel, source] = 1.0


def _whitening(pool: Pool, count: int = 64) -> NDArray[np.float32]:
    """Principal components of 4x4x4 blocks, each scaled to unit variance, `[64, 4, 4, 4]`."""
    images = pool.images[:count].astype(np.float32)
    n, x, y, z = (d // 4 if a else d for a, d in enumerate(images.shape))
    blocks = images.reshape(n, x, 4, y, 4, z, 4).transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, 64)
    values, vectors = np.linalg.eigh(np.cov(blocks.T))
    order = np.argsort(values)[::-1]
    scaled = vectors[:, order] / np.sqrt(values[order] + 1e-6)
    whitening: NDArray[np.float32] = scaled.T.reshape(64, 4, 4, 4).astype(np.float32)
    return whitening


def _draw(pool: Pool, rng: np.random.Generator, *, view: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels `[B, 1, X, Y, Z]`, each mirrored half the time."""
    indices = rng.integers(len(pool), size=_BATCH)
    labels = [pool.labels[i] for i in indices]
    boxes = [_brain(label) for label in labels]
    extent = [max(-(-(high[a] - low[a]) // 4) * 4 for low, high in boxes) for a in range(3)]
    if view == "cube":
        extent = [min(_CUBE, n) for n in extent]
    images, masks = [], []
    for index, label, (low, high) in zip(indices, labels, boxes, strict=True):
        image = pool.images[index]
        if view != "whole":
            start = []
            for axis in range(3):
                spare = extent[axis] - (high[axis] - low[axis])
                first = low[axis] - int(rng.integers(min(0, spare), max(0, spare) + 1))
                start.append(max(0, min(first, label.shape[axis] - extent[axis])))
            box = tuple(slice(a, a + n) for a, n in zip(start, extent, strict=True))
            image, label = image[box], label[box]
        if rng.random() < 0.5:
            image, label = image[::-1], label[::-1]
        images.append(torch.from_numpy(image.astype(np.float32)))
        masks.append(torch.from_numpy(label.copy()))
    return torch.stack(images)[:, None], torch.stack(masks)[:, None]


def _brain(label: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """First voxel of the brain along each axis, and one past the last."""
    low, high = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero((label > 0).any(axis=others))
        low.append(int(inside[0]))
        high.append(int(inside[-1]) + 1)
    return low, high
