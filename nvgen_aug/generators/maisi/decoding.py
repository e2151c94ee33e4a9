"""Decoding: the half of a generator that turns a latent into voxels."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ...crop import Crop
from ...crop import crop_text
from ...volume import Latent
from ...volume import SyntheticVolume
from .networks import Autoencoder
from .piecewise.codec import Codec
from .piecewise.spans import Box
from .piecewise.spans import Grid
from .piecewise.spans import extent
from .reference import reference_decode
from .statistics_mode import StatisticsMode
from .variants import Variant
from .voxels import VoxelWriter
from .voxels import check_out


@final
class Decoding:
    """Decodes latents of one variant, whole or in part.

    Args:
        autoencoder: Placed on its device, ready to infer.
        variant: Whose latents it decodes.
        mode: Whose statistics the norms use.
        progress: Called now and then while a volume is decoded.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        variant: Variant,
        mode: StatisticsMode,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._codec = Codec(autoencoder, progress=progress)
        self._variant = variant
        self._device = autoencoder.post_quant_conv.conv.weight.device
        self._mode = mode

    @torch.inference_mode()
    def decode(
        self, latent: Latent, crop: Crop | None = None, out: NDArray[np.int16] | None = None
    ) -> tuple[SyntheticVolume, NDArray[np.float32] | None]:
        """The voxels of a latent, or of a box of it, and the volume's statistics if known.

        A box decodes alone if the statistics of its volume are known.

        Args:
            latent: What to decode.
            crop: The box, or `None` for all.
            out: int16 `[1, X, Y, Z]`, C-contiguous, to write the image into, such as a slot of
                shared memory; a new array if `None`. On a GPU, slabs are copied while the next are
                decoded if its memory is pinned.

        Raises:
            SpecError: if the box leaves the volume.
            GenerationError: if memory does not suffice, the decoder gave values that are not
                finite, or `out` does not fit.
        """
        grid = self._grid(latent)
        everything = (0, grid[0]), (0, grid[1]), (0, grid[2])
        box: Box = everything if crop is None else _box(crop, grid)
        if out is not None:
            check_out(out, (1, *extent(box)))
        image = np.empty((1, *extent(box)), np.int16) if out is None else out
        inside = (slice(None), *(slice(low, high) for low, high in box))
        label = None if latent.label is None else np.ascontiguousarray(latent.label[inside])
        writer = VoxelWriter(image, box[0][0], label, self._variant.intensity, self._device)
        statistics = self._write(latent, box, everything, writer)
        writer.finish(latent.spec.seed)
        affine, provenance = latent.affine, latent.provenance
        if crop is not None:
            affine, provenance = crop.moved(affine), provenance.with_(crop=crop_text(crop))
        return SyntheticVolume(image, label, affine, provenance, crop), statistics

    def image_shape(self, latent: Latent) -> tuple[int, ...]:
        """Shape of the image of a whole volume."""
        return (1, *self._grid(latent))

    @torch.inference_mode()
    def encode(self, values: NDArray[np.float32]) -> torch.Tensor:
        """The latent mean `[1, C, x, y, z]`, float32, of an image `[X, Y, Z]` in network units."""
        weight = self._codec.network.post_quant_conv.conv.weight
        image = torch.from_numpy(values)[None, None].to(self._device, weight.dtype)
        mean, _ = self._codec.encode(image)
        return mean.float()

    def use_less_memory(self) -> bool:
        """Decode by a leaner plan from now on, if memory ran out in decoding and there is one."""
        return self._codec.decoder.use_less_memory()

    def crop_share(self, latent: Latent, crop: Crop) -> float:
        """Work of decoding a crop, as a part of the work of decoding all; at most 1."""
        if self._given(latent) is None:
            return 1.0
        x, y, z = latent.tensor.shape[1:]
        return self._codec.decode_share((x, y, z), _box(crop, self._grid(latent)))

    def _write(
        self, latent: Latent, box: Box, everything: Box, writer: VoxelWriter
    ) -> NDArray[np.float32] | None:
        tensor = torch.from_numpy(latent.tensor.astype(np.float32))[None].to(self._device)
        statistics = self._given(latent)
        if self._is_in_windows(latent):
            image = self._in_windows(latent, tensor)
            writer.begin()
            writer.write(box[0], image[(slice(None), slice(None), *_slices(box))])
            return None
        if statistics is not None:
            given = torch.tensor(statistics, device=self._device)
            self._codec.decode_into(writer, tensor, box=box, statistics=given)
            return latent.statistics
        if box == everything:
            ran = self._codec.decode_into(writer, tensor)
            return ran.statistics.cpu().numpy()
        decoded = self._codec.decode(tensor)
        writer.begin()
        writer.write(box[0], decoded.image[(slice(None), slice(None), *_slices(box))])
        return decoded.statistics.cpu().numpy()

    def _is_in_windows(self, latent: Latent) -> bool:
        return self._mode.kind == "tile" or latent.spec.numerics == "reference"

    def _in_windows(self, latent: Latent, tensor: torch.Tensor) -> torch.Tensor:
        """As NV-Generate decodes: windows with statistics of their own, blended."""
        network = self._codec.network
        kind = network.post_quant_conv.conv.weight.dtype

        def decode(part: torch.Tensor) -> torch.Tensor:
            return network.decode(part.to(kind, memory_format=torch.channels_last_3d)).float()

        if latent.spec.numerics != "reference":
            window = self._mode.tile, self._mode.overlap
            return reference_decode(decode, tensor, window)
        is_paired = latent.label is not None
        window = self._variant.window_paired if is_paired else self._variant.window_alone
        decoded = reference_decode(decode, tensor.half() if is_paired else tensor, window)
        # Under a mask upstream cuts values before it scales them, both in half precision.
        rule = self._variant.intensity
        top = (rule.highest - rule.shift) / rule.scale
        return decoded.clamp(min=0.0, max=top) if is_paired else decoded

    def _given(self, latent: Latent) -> NDArray[np.float32] | None:
        """Statistics that the norms must use, if they are not to find their own."""
        if self._is_in_windows(latent):
            return None
        return latent.statistics if self._mode.kind == "full" else self._mode.frozen

    def _grid(self, latent: Latent) -> Grid:
        x, y, z = (self._variant.compression * n for n in latent.tensor.shape[1:])
        return x, y, z


def _box(crop: Crop, grid: Grid) -> Box:
    crop.check_inside(grid)
    x, y, z = ((low, low + size) for low, size in zip(crop.start, crop.size, strict=True))
    return x, y, z


def _slices(box: Box) -> tuple[slice, slice, slice]:
    x, y, z = (slice(low, high) for low, high in box)
    return x, y, z
