"""Conversation: one client's connection to a server: a question, its answer, and so on."""

from __future__ import annotations

import json
import logging
import socket
from concurrent.futures import CancelledError
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import asdict
from math import inf
from math import prod
from time import monotonic
from typing import Any
from typing import Protocol
from typing import TypeVar
from typing import final

import numpy as np

from ..errors import DataError
from ..errors import FetchTimeout
from ..errors import NvgenError
from ..errors import SourceError
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from . import messages as m
from . import wire
from .connection import has_input
from .ring import Ring
from .ring import flat
from .ring import gather
from .ring import send_with_ring
from .servable import Servable
from .shelf import Shelf
from .status import Status
from .workshop import EngineClosed

# A client that was stopped in the middle of a copy must not keep its slot for ever.
SECONDS_TO_ANSWER = 60.0
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_HANG_UP = 5.0
SECONDS_UNTIL_ROOM = 0.5

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What a conversation needs of its server."""

    engine: Servable
    ring: Ring
    shelf: Shelf
    members: tuple[str, ...]

    def answering(self) -> AbstractContextManager[None]: ...
    def waiting(self) -> AbstractContextManager[bool]: ...
    def status(self) -> Status: ...


@final
class Conversation:
    """What a server says to one client until that hangs up.

    Args:
        connection: The client's end.
        pid: Its process; each process has its turn, with however many connections.
        host: The server.
    """

    def __init__(self, connection: socket.socket, pid: int, host: Host) -> None:
        self._connection = connection
        self._client = pid
        self._host = host
        self._engine = host.engine
        self._ring = host.ring
        self._shelf = host.shelf

    def run(self) -> None:
        connection, ring = self._connection, self._ring
        connection.settimeout(SECONDS_TO_ANSWER)
        try:
            wire.receive(connection, m.Hello)
        except SourceError as error:
            connection.sendall(wire.frame(m.Failure.of(error)))
            raise
        card = self._engine.card.to_json()
        members = self._host.members
        welcome = m.Welcome(m.PROTOCOL, card, ring.name, ring.slots, ring.slot_bytes, members)
        send_with_ring(connection, wire.frame(welcome), ring)
        while True:
            connection.settimeout(None)  # between questions a client may be silent for hours
            first = wire.read_exactly(connection, 1)
            connection.settimeout(SECONDS_TO_ANSWER)
            question = wire.receive(connection, m.Message, first)
            with self._host.answering():
                self._answer(question)

    def _answer(self, question: m.Message) -> None:
        request = getattr(question, "request", 0)
        try:
            if not isinstance(question, m.Fetch):
                self._send(self._simple_answer(question))
                return
            with self._host.waiting() as has_place:
                if not has_place:
                    why = "the queue of the server is full"
                    self._send(m.Later(request, SECONDS_UNTIL_ROOM, why))
                    return
                volume = self._fetch(question)
        except (NvgenError, CancelledError) as error:
            if isinstance(error, _NonsenseError):
                raise
            if isinstance(error, EngineClosed):
                # Another process may take the place of this one: who is hung up on asks again.
                raise EOFError from error
            _log.info("request %d of process %d: %s", request, self._client, error)
            self._send(m.Failure.of(error, request).without_paths())
            return
        self._send_volume(request, volume)

    def _simple_answer(self, question: m.Message) -> m.Message:
        if isinstance(question, m.Put):
            return m.Stored(question.request, self._put(question))
        if isinstance(question, m.Prefetch):
            self._engine.prefetch([VolumeSpec.from_json(text) for text in question.specs])
            return m.Done(question.request)
        if isinstance(question, m.Resolve):
            resolved = self._engine.resolve(VolumeSpec.from_json(question.spec))
            return m.Resolved(question.request, resolved.to_json())
        if isinstance(question, m.AskStats):
            return m.Stats(question.request, json.dumps(asdict(self._engine.stats())))
        if isinstance(question, m.Ping):
            return m.Done(question.request)
        if isinstance(question, m.AskStatus):
            return m.Report(question.request, self._host.status().to_json())
        if isinstance(question, m.AskMetrics):
            return m.Report(question.request, self._host.status().metrics())
        if isinstance(question, m.Prove):
            if not self._engine.health().is_ready:
                self._await(self._engine.prove(), inf, is_shared=True)
            return m.Done(question.request)
        msg = f"{type(question).__name__} is nothing that a client asks"
        raise _NonsenseError(msg)

    def _fetch(self, question: m.Fetch) -> SyntheticVolume:
        spec = VolumeSpec.from_json(question.spec)
        crop = wire.crop_from_json(question.crop)
        future = self._engine.submit(spec, crop, client=self._client)
        # The client keeps the time; this is for one that cannot.
        return self._await(future, question.seconds)

    def _await(self, future: Future[T], seconds: float, *, is_shared: bool = False) -> T:
        # What others wait for as well is not ours to take back.
        own: Future[Any] = Future() if is_shared else future
        deadline = monotonic() + seconds + SECONDS_TO_HANG_UP
        while True:
            try:
                return future.result(SECONDS_BETWEEN_LOOKS)
            except TimeoutError:
                if future.done():  # the answer came just after the wait ended
                    return future.result()
            self._check_still_there(own)
            if monotonic() > deadline:
                own.cancel()
                msg = f"the volume was not made within {seconds:g} s"
                raise FetchTimeout(msg)

    def _check_still_there(self, future: Future[Any]) -> None:
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
        kept = self._shelf.slot_of(volume)
        if kept is not None:  # until here and in other threads it is only read
            with self._ring.showing(kept):
                self._send(_voxels(request, kept, total, volume))
                self._await_taken(request)
            return
        # The slot is given when the answer is ready, to a client that holds none.
        # A volume that many ask for in a row is copied once.
        name = f"{volume.provenance.uid} {wire.crop_to_json(volume.crop)} {total}"
        content = name if total <= self._ring.slot_bytes else ""
        with self._ring.lease(content) as (number, is_there):
            slot = self._ring.slot(number)
            for offset in range(0, total, self._ring.slot_bytes):
                length = min(total - offset, self._ring.slot_bytes)
                if not is_there:
                    gather(parts, offset, slot[:length])
                if offset == 0:
                    self._send(_voxels(request, number, length, volume))
                else:
                    self._send(m.Piece(request, number, offset, length))
                self._await_taken(request)

    def _await_taken(self, request: int) -> None:
        taken = wire.receive(self._connection, m.Taken)
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
        body = wire.read_exactly(self._connection, nbytes)
        array = np.frombuffer(body, dtype=dtype).reshape(question.shape)
        try:
            return self._engine.put(array, np.asarray(question.affine).reshape(4, 4))
        except ValueError as error:
            if isinstance(error, NvgenError):
                raise
            raise DataError(str(error)) from error

    def _send(self, message: m.Message) -> None:
        self._connection.sendall(wire.frame(message))


class _NonsenseError(SourceError):
    """What a client sent cannot be answered: hang up."""


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
        crop=wire.crop_to_json(volume.crop),
    )
