"""Shelf: volumes that are made where clients can see them, in slots of the ring."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from ..volume import SyntheticVolume
from .ring import Ring
from .ring import flat

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
class Shelf:
    """Memory of a ring for volumes that are about to be made, so that nobody copies them there.

    The memory belongs to whoever holds the volume, or a part of it: the engine, which keeps it for
    a while, and every thread that sends it to a client just now. When the last of them has let go,
    the slot is free again. Nobody writes into it in between, so any number of clients may read.

    Args:
        ring: Whose slots are used. A part of them is left for what has to be copied.
        has_labels: Whether an image needs room for its label behind it.
    """

    __slots__ = ("_has_labels", "_ring")

    def __init__(self, ring: Ring, *, has_labels: bool) -> None:
        self._ring = ring
        self._has_labels = has_labels

    @property
    def memory(self) -> NDArray[np.uint8]:
        """All of the memory of which volumes get parts."""
        return self._ring.memory

    def image(self, shape: tuple[int, ...]) -> NDArray[np.int16] | None:
        """Memory for an image `[1, X, Y, Z]`, or `None` if there is no room for it now."""
        voxels = prod(shape)
        memory = self._ring.hold((2 + self._has_labels) * voxels)
        return None if memory is None else memory[: 2 * voxels].view(np.int16).reshape(shape)

    def finish(self, volume: SyntheticVolume) -> SyntheticVolume:
        """The volume with its label behind its image, if that lies in a slot."""
        label = volume.label
        if self._ring.slot_of(volume.image) is None or label is None:
            return volume
        memory = _held_memory(volume.image)
        begin, end = volume.image.nbytes, volume.image.nbytes + label.nbytes
        if memory is None or memory.nbytes < end:
            return volume
        memory[begin:end] = flat(label)
        return replace(volume, label=memory[begin:end].reshape(label.shape))

    def slot_of(self, volume: SyntheticVolume) -> int | None:
        """The slot in which image and label lie end to end, or `None`."""
        image, label = volume.image, volume.label
        if label is not None and label.ctypes.data != image.ctypes.data + image.nbytes:
            return None
        return self._ring.slot_of(image)


def _held_memory(image: NDArray[np.int16]) -> NDArray[np.uint8] | None:
    """The memory from `Ring.hold` at whose beginning an image lies, if it lies there."""
    base = image.base
    if not isinstance(base, np.ndarray) or base.dtype != np.uint8 or base.ndim != 1:
        return None
    return base if base.ctypes.data == image.ctypes.data else None
