"""Connection: a client's end of a socket, and the rules for using it again."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from math import prod
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING
from typing import TypeVar
from typing import final

import numpy as np

from ..card import VariantCard
from ..crop import Crop
from ..errors import FetchTimeout
from ..errors import ServerUnavailable
from ..errors import SourceError
from ..provenance import Provenance
from ..volume import SyntheticVolume
from . import messages as m
from . import wire
from .recycled import Recycled
from .retries import SECONDS_TO_COME_AGAIN
from .retries import Broken
from .retries import HungUp
from .retries import TryLater
from .ring import RingView
from .ring import flat
from .ring import scatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

M = TypeVar("M", bound=m.Message)

PREFIX = "unix:"
LOG_NAME = "server.log"
SECONDS_TO_CONNECT = 10.0
MAX_VOXELS = 4 << 30


@final
class Pool:
    """Of one process: idle connections, the mapped ring, memory, and what the server said."""

    __slots__ = ("card", "idle", "members", "memory", "ring")

    def __init__(self) -> None:
        self.members: tuple[str, ...] = ()
        self.idle: list[Connection] = []
        self.ring: RingView | None = None
        self.card: VariantCard | None = None
        self.memory = Recycled()


@final
class Turn:
    """A connection for one question: taken from the pool or opened, given back or closed.

    A connection on which anything went wrong is never used again: the answer that
    is still to come would be taken for that of the next question.

    Args:
        pool: Connections of this process.
        address: Where to open another.
        timeout: Seconds for the question and its answer.
        what: What is asked, for the text of an error.
    """

    __slots__ = ("_address", "_connection", "_pool", "_timeout", "_what")

    def __init__(self, pool: Pool, address: str, timeout: float, what: str) -> None:
        self._pool = pool
        self._address = address
        self._timeout = timeout
        self._what = what

    def __enter__(self) -> Connection:
        deadline = monotonic() + self._timeout
        self._connection = self._quiet() or Connection(self._address, self._pool, self._timeout)
        self._connection.deadline = deadline
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection.is_in_step:
            self._pool.idle.append(self._connection)
            return
        self._connection.close()
        if isinstance(error, TimeoutError):
            msg = (
                f"no answer from {self._address} within {self._timeout:.3g} s for {self._what}; "
                "give it more time with `timeout=`, or look into the server's log"
            )
            raise FetchTimeout(msg) from error
        if isinstance(error, (EOFError, OSError)):
            msg = (
                f"the server at {self._address} died before it answered for {self._what}"
                f"{log_tail(self._address)}; volumes that reached the cache are whole, so "
                "start it again and go on"
            )
            raise Broken(msg) from error

    def _quiet(self) -> Connection | None:
        while self._pool.idle:
            with suppress(IndexError):  # another thread took the last one
                connection = self._pool.idle.pop()
                if connection.is_quiet():
                    return connection
                connection.close()  # the server has gone since, and may have come again
        return None


@final
class Connection:
    """One socket to a server, greeted, with the ring mapped.

    Args:
        address: Where the server is.
        pool: Where ring, card and memory are shared with other connections.
        timeout: Seconds until it must have been greeted.

    Raises:
        ServerUnavailable: if nobody answers.
        TryLater: if nobody is ready to.
        SourceError: if somebody answers who cannot be understood.
    """

    __slots__ = ("_memory", "_ring", "_socket", "address", "deadline", "is_in_step")

    def __init__(self, address: str, pool: Pool, timeout: float = SECONDS_TO_CONNECT) -> None:
        self.address = address
        self.deadline = monotonic() + timeout
        self.is_in_step = True
        self._memory = pool.memory
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        seconds = max(min(timeout, SECONDS_TO_CONNECT), 0.001)
        try:
            self._socket.settimeout(seconds)
            try:
                self._socket.connect(address.removeprefix(PREFIX))
            except BlockingIOError as error:
                raise TryLater(SECONDS_TO_COME_AGAIN, "too many knock at its door") from error
            try:
                self._ring = self._greet(pool)
            except TimeoutError as error:
                # One that hangs is replaced by its supervisor, in its time.
                why = f"it did not greet within {seconds:g} s"
                raise TryLater(SECONDS_TO_COME_AGAIN, why) from error
            except (OSError, EOFError) as error:
                raise HungUp(self._nobody("it hung up")) from error
        except OSError as error:
            self.close()
            raise ServerUnavailable(self._nobody(str(error))) from error
        except BaseException:
            self.close()
            raise

    def _nobody(self, why: str) -> str:
        return (
            f"no generator answers at {self.address} ({why}); "
            f"start one with `nvgen-aug serve`{log_tail(self.address)}"
        )

    def send(self, question: m.Message, body: NDArray[np.uint8] | None = None) -> None:
        """Ask; until the whole answer is here the connection is out of step."""
        frame = wire.frame(question)
        self.is_in_step = False
        self._wait_for_the_rest()
        self._socket.sendall(frame)
        if body is not None:
            self._socket.sendall(body.data)

    def receive_answer(self, kind: type[M], request: int) -> M:
        """The one message that answers a request, or the error that came in its place."""
        answer = self._receive(kind, request)
        self.is_in_step = True
        return answer

    def receive_volume(self, request: int, key: str) -> SyntheticVolume:
        """The volume that answers a request, copied out of the ring."""
        first = self._receive(m.Voxels, request)
        if first.key != key:
            msg = f"volume {first.key[:12]} came where {key[:12]} was asked for; ask again"
            raise SourceError(msg)
        image, label = _empty_arrays(first, self._memory)
        parts = [flat(image)] + ([] if label is None else [flat(label)])
        total = sum(part.size for part in parts)
        done, slot, length = 0, first.slot, first.length
        while True:
            if not 0 < length <= total - done:
                msg = f"a piece of {length} bytes came where {total - done} were left"
                raise SourceError(msg)
            scatter(self._ring.slot(slot)[:length], done, parts)
            done += length
            self._socket.sendall(wire.frame(m.Taken(request)))
            if done == total:
                break
            piece = self._receive(m.Piece, request)
            if piece.offset != done:
                msg = f"the piece at byte {piece.offset} came where {done} was next"
                raise SourceError(msg)
            slot, length = piece.slot, piece.length
        self.is_in_step = True
        crop = wire.crop_from_json(first.crop)
        return SyntheticVolume(
            image=image,
            label=label,
            affine=np.asarray(first.affine).reshape(4, 4),
            provenance=Provenance.from_json(first.provenance),
            crop=crop if isinstance(crop, Crop) else None,
        )

    def is_quiet(self) -> bool:
        """Whether the server is there and has nothing to say: neither an end nor a late answer."""
        return not has_input(self._socket)

    def close(self) -> None:
        """Hang up, also for forked children that hold the same socket."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def drop(self) -> None:
        """Let go of a parent's socket in a forked child; the parent goes on using it."""
        self._socket.close()

    def _greet(self, pool: Pool) -> RingView:
        # A server that takes nobody has said why and hung up, perhaps before it was greeted.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(wire.frame(m.Hello(m.PROTOCOL)))
        flags = socket.MSG_CMSG_CLOEXEC
        prefix, fds, _, _ = socket.recv_fds(self._socket, 1, 1, flags)
        try:
            welcome = wire.receive(self._socket, m.Message, prefix)
            if isinstance(welcome, m.Later):
                raise TryLater(welcome.seconds, welcome.why)
            if isinstance(welcome, m.Failure):
                raise welcome.error()
            if not isinstance(welcome, m.Welcome):
                msg = f"{type(welcome).__name__} came from {self.address} in place of a greeting"
                raise SourceError(msg)
            card = VariantCard.from_json(welcome.card)
            if pool.card is not None and pool.card != card:
                msg = f"the generator at {self.address} is another than before: `{card.name}`"
                raise SourceError(msg)
            if not fds:
                msg = f"the server at {self.address} sent no ring"
                raise SourceError(msg)
            ring = pool.ring
            if ring is None or ring.name != welcome.ring:
                ring = RingView(fds[0], welcome.ring, welcome.slots, welcome.slot_bytes)
        finally:
            for fd in fds:
                os.close(fd)
        pool.card, pool.ring, pool.members = card, ring, welcome.members
        return ring

    def _receive(self, kind: type[M], request: int) -> M:
        self._wait_for_the_rest()
        message = wire.receive(self._socket, m.Message)
        if getattr(message, "request", None) != request:
            msg = f"an answer to another request came: {type(message).__name__}; ask again"
            raise SourceError(msg)
        if isinstance(message, m.Failure):
            self.is_in_step = True  # an error is an answer, too
            raise message.error()
        if isinstance(message, m.Later):
            self.is_in_step = True
            raise TryLater(message.seconds, message.why)
        if not isinstance(message, kind):
            msg = f"{kind.__name__} was expected, {type(message).__name__} came; ask again"
            raise SourceError(msg)
        return message

    def _wait_for_the_rest(self) -> None:
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def has_input(connection: socket.socket) -> bool:
    """Whether something can be read now: bytes, or the end."""
    # Not `select`: it refuses descriptors from 1024 on, and torch's loaders use them by thousands.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def log_tail(address: str, lines: int = 5) -> str:
    """The end of the log of the server at an address, as a clause for an error's text."""
    try:
        path = Path(address.removeprefix(PREFIX)).with_name(LOG_NAME)
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # a server in the foreground logs to its terminal
        return ""
    if not text:
        return "; its log is empty (killed from outside, or out of memory?)"
    return "; its log ends: " + " | ".join(text.splitlines()[-lines:])[-1000:]


def _empty_arrays(
    first: m.Voxels, memory: Recycled
) -> tuple[NDArray[np.int16], NDArray[np.uint8] | None]:
    shapes = [first.image_shape] + ([] if first.label_shape is None else [first.label_shape])
    dtypes = ("<i2", "|u1")[: len(shapes)]
    is_sane = all(len(shape) == 4 and min(shape) > 0 for shape in shapes)
    is_sane = is_sane and first.dtypes == dtypes and len(first.affine) == 16
    if not is_sane or sum(map(prod, shapes)) > MAX_VOXELS:
        msg = f"the server sent no volume: {first.dtypes} {shapes}"
        raise SourceError(msg)
    image = memory.empty(2 * prod(first.image_shape)).view(np.int16).reshape(first.image_shape)
    if first.label_shape is None:
        return image, None
    return image, memory.empty(prod(first.label_shape)).reshape(first.label_shape)
