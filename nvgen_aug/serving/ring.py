"""Ring: the shared memory through which voxels go from a server to its clients.

A memfd has no name, so nothing is left behind whoever dies, and no `/dev/shm`
limit applies. Its pages are there before the first answer: touching fresh
pages costs more than copying a volume. It is sealed: it cannot change its
size under a reader, and nobody but the server can ever write to it.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import secrets
import socket
import weakref
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from threading import Condition
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from ..card import VariantCard
from ..errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SLOT_BYTES = 1 << 18
MAX_SLOT_BYTES = 64 << 20
MAX_RING_BYTES = 256 << 20
MAX_SLOTS = 8

# Linux 5.1; Python 3.11 has no name for it.
_F_SEAL_FUTURE_WRITE = 0x0010
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def slots_for(card: VariantCard) -> tuple[int, int]:
    """Number of slots and bytes of each, so that a volume of the default size fits in one."""
    x, y, z = card.default_size
    wanted = x * y * z * (2 + card.has_labels)
    slot_bytes = min(max(wanted, MIN_SLOT_BYTES), MAX_SLOT_BYTES)
    slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    return min(max(MAX_RING_BYTES // slot_bytes, 2), MAX_SLOTS), slot_bytes


@final
class Ring:
    """The server's side: slots that are leased, filled and given back.

    Args:
        slots: Number of slots.
        slot_bytes: Bytes of each.

    Raises:
        SourceError: if there is not that much memory.
    """

    __slots__ = (
        "__weakref__",
        "_contents",
        "_free",
        "_held",
        "_is_closed",
        "_lock",
        "_map",
        "_memory",
        "_shown",
        "fd",
        "name",
        "slot_bytes",
        "slots",
    )

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.name = secrets.token_hex(8)
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.fd = os.memfd_create("nvgen-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        size = slots * slot_bytes
        try:
            # Unlike ftruncate this fails here if memory is short, not with SIGBUS later.
            os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SIZE_SEALS)
            with suppress(OSError):  # before Linux 5.1 clients map read-only by agreement
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
        except OSError as error:
            os.close(self.fd)
            msg = f"no memory for a ring of {slots} slots of {slot_bytes >> 20} MiB: {error}"
            raise SourceError(msg) from error
        self._memory = np.frombuffer(self._map, dtype=np.uint8).reshape(slots, slot_bytes)
        self._free = list(range(slots))  # the one that was used longest ago comes first
        self._contents = [""] * slots
        self._held = 0
        self._shown: list[int] = []  # slots that clients read while a volume is kept in them
        self._is_closed = False
        self._lock = Condition()

    @property
    def free(self) -> int:
        """Slots from which nothing is on its way to a client, though volumes may be kept there."""
        return len(self._free) + self._held - len(set(self._shown))

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The bytes of all slots."""
        return self._memory.reshape(-1)

    @contextmanager
    def lease(self, content: str = "") -> Iterator[tuple[int, bool]]:
        """A slot to fill, waited for if none is free, and given back whatever happens.

        Args:
            content: A name for what will lie in it; `""` if that is not to be found again.

        Yields:
            The slot, and whether what has that name lies in it already.
        """
        with self._lock:
            while not self._free:
                self._lock.wait()
            slot = next((s for s in self._free if self._holds(s, content)), self._free[0])
            self._free.remove(slot)
            is_there = self._holds(slot, content)
            if not is_there:
                self._contents[slot] = ""
        try:
            yield slot, is_there
            self._contents[slot] = content  # not reached if it was left half filled
        finally:
            with self._lock:
                self._free.append(slot)
                self._lock.notify_all()

    def hold(self, nbytes: int) -> NDArray[np.uint8] | None:
        """The beginning of a slot, which is taken for as long as anything refers to this memory.

        Args:
            nbytes: How much is needed.

        Returns:
            Bytes with anything in them, or `None` if a slot is too small, none is free, or half
            of them are held already: the others are for `lease`.
        """
        with self._lock:
            has_room = self._held < self.slots - max(1, self.slots // 2)
            is_open = has_room and bool(self._free) and not self._is_closed
            if not is_open or nbytes > self.slot_bytes:
                return None
            slot = self._free.pop(0)
            self._contents[slot] = ""
            self._held += 1
            # Views of an array refer to what holds its memory, not to the array: so that tells.
            holder = (ctypes.c_uint8 * nbytes).from_buffer(self._map, slot * self.slot_bytes)
        weakref.finalize(holder, self._let_go, slot).atexit = False
        return np.frombuffer(memoryview(holder), np.uint8)

    @contextmanager
    def showing(self, slot: int) -> Iterator[None]:
        """While a client reads what is kept in a slot; the caller holds it meanwhile."""
        with self._lock:
            self._shown.append(slot)
        try:
            yield
        finally:
            with self._lock:
                self._shown.remove(slot)
                self._lock.notify_all()

    def slot_of(self, array: NDArray[np.generic]) -> int | None:
        """The slot at whose beginning an array lies, or `None`."""
        address, base = array.ctypes.data, self._memory.ctypes.data
        number, within = divmod(address - base, self.slot_bytes)
        is_here = 0 <= number < self.slots and within == 0 and array.flags.c_contiguous
        return number if is_here else None

    def wait_until_free(self, slots: int, timeout: float) -> bool:
        """Wait until this many slots are free; whether they are."""
        with self._lock:
            return self._lock.wait_for(lambda: self.free >= slots, timeout)

    def slot(self, number: int) -> NDArray[np.uint8]:
        """The bytes of one slot."""
        memory: NDArray[np.uint8] = self._memory[number]
        return memory

    def _let_go(self, slot: int) -> None:
        # Whatever thread dropped the last reference runs this, even in the middle of a lease.
        with self._lock:
            self._held -= 1
            self._free.append(slot)
            self._lock.notify_all()

    def _holds(self, slot: int, content: str) -> bool:
        return content != "" and self._contents[slot] == content

    def close(self) -> None:
        """Unmap; clients that still read keep their own mapping, and volumes keep this one."""
        with self._lock:
            self._is_closed = True
        del self._memory
        with suppress(BufferError):  # volumes lie there, or a thread that would not end copies
            self._map.close()
        os.close(self.fd)


@final
class RingView:
    """A client's side: the same slots, read-only.

    Args:
        fd: Descriptor that came from the server; the mapping outlives it.
        name, slots, slot_bytes: As the server said.

    Raises:
        SourceError: if the descriptor is not such a ring.
    """

    __slots__ = ("_map", "_memory", "name")

    def __init__(self, fd: int, name: str, slots: int, slot_bytes: int) -> None:
        self.name = name
        try:
            if os.fstat(fd).st_size != slots * slot_bytes:
                msg = f"the ring has {os.fstat(fd).st_size} bytes, {slots} × {slot_bytes} expected"
                raise SourceError(msg)
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SIZE_SEALS != _SIZE_SEALS:
                msg = "the ring is not sealed against a change of its size"
                raise SourceError(msg)
            # MAP_POPULATE: page faults now, not during each first copy.
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._map = mmap.mmap(fd, slots * slot_bytes, flags, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            msg = f"cannot map the ring of the server: {error}"
            raise SourceError(msg) from error
        self._memory = np.frombuffer(self._map, dtype=np.uint8).reshape(slots, slot_bytes)

    def slot(self, number: int) -> NDArray[np.uint8]:
        """The bytes of one slot."""
        memory: NDArray[np.uint8] = self._memory[number]
        return memory


def gather(parts: Sequence[NDArray[np.uint8]], offset: int, piece: NDArray[np.uint8]) -> None:
    """Fill a piece with the bytes of the parts, laid end to end, from an offset on."""
    for part, within in _overlaps(parts, offset, piece.size):
        piece[within] = part


def scatter(piece: NDArray[np.uint8], offset: int, parts: Sequence[NDArray[np.uint8]]) -> None:
    """Put a piece where `gather` took it from."""
    for part, within in _overlaps(parts, offset, piece.size):
        part[:] = piece[within]


def flat(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The bytes of an array as a flat array, copied only if they do not lie in order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def send_with_ring(connection: socket.socket, frame: bytes, ring: Ring) -> None:
    """Send a frame with the ring's descriptor beside its first byte."""
    sent = socket.send_fds(connection, [frame], [ring.fd])
    connection.sendall(frame[sent:])


def _overlaps(
    parts: Sequence[NDArray[np.uint8]], offset: int, length: int
) -> Iterator[tuple[NDArray[np.uint8], slice]]:
    begin = 0
    for part in parts:
        low, high = max(offset, begin), min(offset + length, begin + part.size)
        if low < high:
            yield part[low - begin : high - begin], slice(low - offset, high - offset)
        begin += part.size
