"""Voxels: what a decoder makes, turned into int16 on its device and written where it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import GenerationError
from .piecewise.spans import Span
from .quality import refuse_unless_finite
from .variants import IntensityMap


@final
class VoxelWriter:
    """A sink that writes int16 voxels into an array, slab by slab, while the next are decoded.

    On a GPU the intensity map runs on the device and the copy on a stream of its own; it overlaps
    with decoding if the array's memory is pinned, as that of a ring registered with CUDA is.

    Args:
        target: int16 `[1, X, Y, Z]` that is written, C-contiguous.
        first: Plane of the whole volume, along x, at which the target begins.
        label: uint8 `[1, X, Y, Z]`, whose zeros are background, or `None`.
        intensity: How voxels are made of network values.
        device: Where slabs come from.
    """

    def __init__(
        self,
        target: NDArray[np.int16],
        first: int,
        label: NDArray[np.uint8] | None,
        intensity: IntensityMap,
        device: torch.device,
    ) -> None:
        self._target = torch.from_numpy(target)
        self._first = first
        self._label = label
        self._intensity = intensity
        self._stream = _stream_of(device)
        self._not_finite = torch.zeros((), dtype=torch.int64, device=device)

    def begin(self) -> None:
        """Write from the beginning."""
        self._not_finite.zero_()

    def write(self, span: Span, planes: torch.Tensor) -> None:
        """Write planes `[1, 1, planes, Y, Z]`, given in network units."""
        low, high = span[0] - self._first, span[1] - self._first
        rule = self._intensity
        # Counted, not looked at: a look would wait for the device.
        self._not_finite += (~torch.isfinite(planes)).sum()
        values = planes[0].float() * rule.scale + rule.shift
        # Cut off to whole numbers, as the family does.
        voxels = values.clamp_(rule.lowest, rule.highest).to(torch.int16)
        if self._label is not None:
            outside = torch.from_numpy(self._label[:, low:high] == 0).to(voxels.device)
            voxels.masked_fill_(outside, rule.background)
        target = self._target[:, low:high]
        if self._stream is None:
            target.copy_(voxels)
            return
        self._stream.wait_stream(torch.cuda.current_stream(voxels.device))
        with torch.cuda.stream(self._stream):
            target.copy_(voxels, non_blocking=True)
        voxels.record_stream(self._stream)

    def finish(self, seed: int) -> None:
        """Wait until all voxels are there.

        Raises:
            GenerationError: if the decoder gave NaN or infinity, with the seed.
        """
        if self._stream is not None:
            self._stream.synchronize()
        refuse_unless_finite(int(self._not_finite), self._target.numel(), "image", seed)


def _stream_of(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for copies, on a GPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def check_out(out: NDArray[np.int16], shape: Sequence[int]) -> None:
    """Refuse an array that an image of this shape cannot be written into.

    Raises:
        GenerationError: Naming what came and what was expected.
    """
    if out.dtype != np.int16 or out.shape != tuple(shape):
        msg = f"`out` must be int16 {list(shape)}, got {out.dtype} {list(out.shape)}"
        raise GenerationError(msg)
    if not (out.flags.c_contiguous and out.flags.writeable):
        msg = "`out` must be C-contiguous and writeable; hand over a whole array or a slot's view"
        raise GenerationError(msg)
