"""Recycled: memory for a caller's own arrays, used again once the caller has let go of them."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import TYPE_CHECKING
from typing import final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Less than this is cheap to allocate anew; the C library keeps such memory itself.
LEAST_BYTES = 4 << 20
KEPT_BYTES = 128 << 20


@final
class Recycled:
    """Blocks of memory whose pages are there already.

    A large array in fresh memory costs about as much again as the copy into it: the system clears
    every page first. A block comes back when nothing refers to it any more, views and tensors that
    share its memory included, and serves the next array of about its size. It needs no lock: what
    comes back does so in whatever thread dropped the last reference.

    Args:
        kept_bytes: Most bytes to keep while nobody uses them.
    """

    __slots__ = ("__weakref__", "_free", "_kept_bytes")

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._free: list[mmap.mmap] = []

    @property
    def free_bytes(self) -> int:
        """Bytes that are kept and not in use."""
        return sum(map(len, self._free))

    def empty(self, nbytes: int) -> NDArray[np.uint8]:
        """A flat array of this many bytes with anything in it."""
        if nbytes < LEAST_BYTES:
            return np.empty(nbytes, np.uint8)
        block = self._taken(nbytes) or _new_block(nbytes)
        # Views of an array refer to what holds its memory, not to the array: so that must tell.
        holder = (ctypes.c_uint8 * nbytes).from_buffer(block)
        weakref.finalize(holder, self._come_back, block).atexit = False
        return np.frombuffer(memoryview(holder), np.uint8)

    def _taken(self, nbytes: int) -> mmap.mmap | None:
        for block in tuple(self._free):
            if nbytes <= len(block) <= nbytes + nbytes // 4:
                try:
                    self._free.remove(block)
                except ValueError:  # another thread took it
                    continue
                return block
        return None

    def _come_back(self, block: mmap.mmap) -> None:
        if self.free_bytes + len(block) <= self._kept_bytes:
            self._free.append(block)


def _new_block(nbytes: int) -> mmap.mmap:
    # Private: a forked child must not write into what its parent reads.
    block = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
