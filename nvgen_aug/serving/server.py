"""Server: an engine behind a Unix socket, with one thread for each connection.

A connection asks one thing at a time, so the queue is bounded by the number of
connections, and what a thread holds (a slot, a future) it gives back when its
connection ends, however it ends.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from math import prod
from threading import Lock
from threading import Thread
from time import monotonic
from typing import final

import numpy as np

from ..errors import DataError
from ..errors import FetchTimeout
from ..errors import NvgenError
from ..errors import SourceError
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from . import messages as m
from .connection import has_input
from .engine import Engine
from .ring import Ring
from .ring import flat
from .ring import gather
from .ring import send_with_ring
from .ring import slots_for

MAX_CONNECTIONS = 512
# A client that was stopped in the middle of a copy must not keep its slot for ever.
SECONDS_TO_ANSWER = 60.0
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_HANG_UP = 5.0

_log = logging.getLogger(__name__)


@final
class Server:
    """Answers clients of this user until it is told to stop.

    Args:
        engine: What makes the volumes; the caller closes it.
        listener: A listening Unix stream socket; the server closes it.
        ring: Shared memory for the voxels; by default with slots for the card's volumes.
    """

    def __init__(self, engine: Engine, listener: socket.socket, ring: Ring | None = None) -> None:
        self._engine = engine
        self._listener = listener
        self.ring = ring or Ring(*slots_for(engine.card))
        self._lock = Lock()
        self._open: dict[Thread, socket.socket] = {}

    def serve_until(self, stops: Sequence[int]) -> None:
        """Accept clients until one of these descriptors can be read."""
        poll = select.poll()
        for fd in (self._listener.fileno(), *stops):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if set(ready) & set(stops):
                return
            try:
                connection, _ = self._listener.accept()
            except OSError as error:  # gone again, or no descriptors left
                _log.warning("a client could not be accepted: %s", error)
                continue
            self._welcome(connection)

    def close(self) -> None:
        """Hang up on all clients and give the ring back."""
        self._listener.close()
        with self._lock:
            left = dict(self._open)
        for connection in left.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join(SECONDS_TO_HANG_UP)
        self.ring.close()

    def _welcome(self, connection: socket.socket) -> None:
        with self._lock:
            is_full = len(self._open) >= MAX_CONNECTIONS
        pid, uid = peer_of(connection)
        try:
            check_peer(uid)
            if is_full:
                msg = f"the server has {MAX_CONNECTIONS} clients, which is all it takes; try later"
                raise SourceError(msg)
        except SourceError as error:
            _log.warning("refused process %d: %s", pid, error)
            with connection, suppress(OSError):
                connection.settimeout(1.0)
                connection.sendall(m.frame(m.Failure.of(error)))
            return
        thread = Thread(
            target=self._converse, args=(connection, pid), name=f"nvgen-client-{pid}", daemon=True
        )
        with self._lock:
            self._open[thread] = connection
        thread.start()

    def _converse(self, connection: socket.socket, pid: int) -> None:
        try:
            with connection:
                _Conversation(connection, pid, self._engine, self.ring).run()
        except (EOFError, OSError):
            pass  # the client has gone, which is how every conversation ends
        except SourceError as error:
            _log.warning("hung up on process %d: %s", pid, error)
        except Exception:
            _log.exception("hung up on process %d", pid)
        finally:
            with self._lock:
                # From here on `close` need not wait for this thread.
                self._open = {t: c for t, c in self._open.items() if c is not connection}


@final
class _Conversation:
    """One client's connection: a question, its answer, and so on."""

    def __init__(self, connection: socket.socket, pid: int, engine: Engine, ring: Ring) -> None:
        self._connection = connection
        self._client = pid  # so that each process has its turn, with however many connections
        self._engine = engine
        self._ring = ring

    def run(self) -> None:
        connection, ring = self._connection, self._ring
        connection.settimeout(SECONDS_TO_ANSWER)
        try:
            m.receive(connection, m.Hello)
        except SourceError as error:
            connection.sendall(m.frame(m.Failure.of(error)))
            raise
        card = self._engine.card.to_json()
        welcome = m.Welcome(m.PROTOCOL, card, ring.name, ring.slots, ring.slot_bytes)
        send_with_ring(connection, m.frame(welcome), ring)
        while True:
            connection.settimeout(None)  # between questions a client may be silent for hours
            first = m.read_exactly(connection, 1)
            connection.settimeout(SECONDS_TO_ANSWER)
            self._answer(m.receive(connection, m.Message, first))

    def _answer(self, question: m.Message) -> None:
        request = getattr(question, "request", 0)
        try:
            if isinstance(question, m.Fetch):
                volume = self._fetch(question)
            else:
                self._send(self._simple_answer(question))
                return
        except (NvgenError, CancelledError) as error:
            if isinstance(error, _NonsenseError):
                raise
            self._send(m.Failure.of(error, request))
            return
        self._send_volume(request, volume)

    def _simple_answer(self, question: m.Message) -> m.Message:
        if isinstance(question, m.Put):
            return m.Stored(question.request, self._put(question))
        if isinstance(question, m.Prefetch):
            self._engine.prefetch([VolumeSpec.from_json(text) for text in question.specs])
            return m.Done(question.request)
        if isinstance(question, m.AskStats):
            return m.Stats(question.request, json.dumps(asdict(self._engine.stats())))
        if isinstance(question, m.Ping):
            return m.Done(question.request)
        msg = f"{type(question).__name__} is nothing that a client asks"
        raise _NonsenseError(msg)

    def _fetch(self, question: m.Fetch) -> SyntheticVolume:
        spec = VolumeSpec.from_json(question.spec)
        crop = m.crop_from_json(question.crop)
        future = self._engine.submit(spec, crop, client=self._client)
        # The client keeps the time; this is for one that cannot.
        deadline = monotonic() + question.seconds + SECONDS_TO_HANG_UP
        while True:
            try:
                return future.result(SECONDS_BETWEEN_LOOKS)
            except TimeoutError:
                if future.done():  # the answer came just after the wait ended
                    return future.result()
            self._check_still_there(future)
            if monotonic() > deadline:
                future.cancel()
                msg = f"the volume was not made within {question.seconds:g} s"
                raise FetchTimeout(msg)

    def _check_still_there(self, future: Future[SyntheticVolume]) -> None:
        """Take the request back if the client has gone: others wait behind it."""
        if has_input(self._connection):
            future.cancel()
            if not self._connection.recv(1, socket.MSG_PEEK):
                raise EOFError
            msg = "a client spoke while it waited for an answer"
            raise _NonsenseError(msg)

    def _send_volume(self, request: int, volume: SyntheticVolume) -> None:
        parts = [flat(volume.image)] + ([] if volume.label is None else [flat(volume.label)])
        total = sum(part.size for part in parts)
        # The slot is given when the answer is ready, to a client that holds none.
        with self._ring.lease() as number:
            slot = self._ring.slot(number)
            for offset in range(0, total, self._ring.slot_bytes):
                length = min(total - offset, self._ring.slot_bytes)
                gather(parts, offset, slot[:length])
                if offset == 0:
                    self._send(_voxels(request, number, length, volume))
                else:
                    self._send(m.Piece(request, number, offset, length))
                taken = m.receive(self._connection, m.Taken)
                if taken.request != request:
                    msg = f"request {taken.request} was taken while {request} is under way"
                    raise SourceError(msg)

    def _put(self, question: m.Put) -> str:
        try:
            dtype = np.dtype(question.dtype)
        except (TypeError, ValueError) as error:
            msg = f"not a dtype: {question.dtype!r}"
            raise _NonsenseError(msg) from error
        nbytes = prod(question.shape) * dtype.itemsize
        # What follows on the wire cannot be told from frames unless its length is believed.
        if dtype.kind not in "biuf" or min(question.shape, default=0) < 1:
            msg = f"not an array: {question.dtype!r} {question.shape}"
            raise _NonsenseError(msg)
        if nbytes > m.MAX_PUT_BYTES or len(question.affine) != 16:
            msg = f"an array of {nbytes} bytes is more than the {m.MAX_PUT_BYTES} allowed"
            raise _NonsenseError(msg)
        body = m.read_exactly(self._connection, nbytes)
        array = np.frombuffer(body, dtype=dtype).reshape(question.shape)
        try:
            return self._engine.put(array, np.asarray(question.affine).reshape(4, 4))
        except ValueError as error:
            if isinstance(error, NvgenError):
                raise
            raise DataError(str(error)) from error

    def _send(self, message: m.Message) -> None:
        self._connection.sendall(m.frame(message))


class _NonsenseError(SourceError):
    """What a client sent cannot be answered: hang up."""


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, uid


def check_peer(uid: int) -> None:
    """Raise `SourceError` unless the user at the other end is our own."""
    if uid != os.getuid():
        msg = f"this server answers user {os.getuid()} only, and user {uid} asked"
        raise SourceError(msg)


def _voxels(request: int, slot: int, length: int, volume: SyntheticVolume) -> m.Voxels:
    arrays = [volume.image] + ([] if volume.label is None else [volume.label])
    return m.Voxels(
        request=request,
        key=volume.provenance.uid,
        slot=slot,
        length=length,
        dtypes=tuple(array.dtype.str for array in arrays),
        image_shape=volume.image.shape,
        label_shape=None if volume.label is None else volume.label.shape,
        affine=tuple(volume.affine.ravel().tolist()),
        provenance=volume.provenance.to_json(),
        crop=m.crop_to_json(volume.crop),
    )
