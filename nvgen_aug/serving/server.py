"""Server: an engine behind a Unix socket, with one thread for each connection.

A connection asks one thing at a time, and what its thread holds (a slot, a
future) is given back when it ends, however it ends. Whoever asks while too
many wait is told to come again later, and the client does.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition
from threading import Thread
from time import monotonic
from typing import final

from ..errors import SourceError
from . import messages as m
from . import wire
from .conversation import SECONDS_TO_HANG_UP
from .conversation import Conversation
from .messages import without_paths
from .ring import Ring
from .ring import slots_for
from .servable import Servable
from .shelf import Shelf
from .status import Status
from .status import memory_of_this_process

MAX_CONNECTIONS = 512
MAX_WAITING = 256
SECONDS_UNTIL_ROOM = 0.5

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class History:
    """What came before this process, for its status.

    Args:
        supervisor: Process that started it; 0 without one.
        restarts: How often that has happened before.
        last_error: Why it was needed last, or empty.
    """

    supervisor: int = 0
    restarts: int = 0
    last_error: str = ""


@final
class Server:
    """Answers clients of this user until it is told to stop.

    Args:
        engine: What makes the volumes; the caller closes it.
        listener: A listening Unix stream socket; the server closes it.
        ring: Shared memory for the voxels; by default with slots for the card's volumes.
        max_waiting: Fetches that may wait at a time.
        history: What came before.
        members: Addresses of all generators behind this place; none if it is the only one.
    """

    def __init__(
        self,
        engine: Servable,
        listener: socket.socket,
        ring: Ring | None = None,
        *,
        max_waiting: int = MAX_WAITING,
        history: History | None = None,
        members: tuple[str, ...] = (),
    ) -> None:
        self.members = members
        self.engine = engine
        self.ring = ring or Ring(*slots_for(engine.card))
        self.shelf = Shelf(self.ring, has_labels=engine.card.has_labels)
        engine.use_shelf(self.shelf)
        self._listener = listener
        # A supervisor may have taken the client that a poll has just shown.
        listener.setblocking(False)
        self._history = history or History()
        self._began = monotonic()
        self._lock = Condition()
        self._open: dict[Thread, socket.socket] = {}
        self._answering = 0
        self._room = max_waiting
        self._refused = 0

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
            except BlockingIOError:
                continue
            except OSError as error:  # gone again, or no descriptors left
                _log.warning("a client could not be accepted: %s", error)
                continue
            self._welcome(connection)

    def close(self) -> None:
        """Let answers that are on their way arrive, hang up and give the ring back."""
        self._listener.close()
        with self._lock:
            self._lock.wait_for(lambda: self._answering == 0, SECONDS_TO_HANG_UP)
            left = dict(self._open)
        for connection in left.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join(SECONDS_TO_HANG_UP)
        self.engine.use_shelf(None)
        self.ring.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While an answer is made and sent: the server does not hang up meanwhile."""
        with self._lock:
            self._answering += 1
        try:
            yield
        finally:
            with self._lock:
                self._answering -= 1
                self._lock.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """A place among those who wait for a volume; false if there is none."""
        with self._lock:
            has_place = self._room > 0
            self._room -= has_place
            self._refused += not has_place
        try:
            yield has_place
        finally:
            with self._lock:
                self._room += has_place

    def status(self) -> Status:
        """How things stand now."""
        stats, health, history = self.engine.stats(), self.engine.health(), self._history
        with self._lock:
            clients, refused = len(self._open), self._refused
        return Status(
            variant=self.engine.card.name,
            pid=os.getpid(),
            supervisor=history.supervisor,
            is_ready=health.is_ready,
            uptime=monotonic() - self._began,
            clients=clients,
            waiting=stats.waiting,
            is_busy=health.is_busy,
            volumes_per_minute=health.volumes_per_minute,
            fetched=stats.fetched,
            generated=stats.generated,
            decoded=stats.decoded,
            hits=stats.hits,
            joined=stats.joined,
            failures=stats.failures,
            unsaved=stats.unsaved,
            rejected=stats.rejected,
            refused=refused,
            longest_wait=health.longest_wait,
            memory=memory_of_this_process(),
            slots=self.ring.slots,
            free_slots=self.ring.free,
            restarts=history.restarts,
            steps_down=health.steps_down,
            last_error=without_paths(health.error or history.last_error),
        )

    def _welcome(self, connection: socket.socket) -> None:
        with self._lock:
            is_full = len(self._open) >= MAX_CONNECTIONS
        pid, uid = peer_of(connection)
        try:
            check_peer(uid)
            if is_full:
                _log.info("process %d has to come again: %d clients", pid, MAX_CONNECTIONS)
                why = f"the server has {MAX_CONNECTIONS} clients, which is all it takes"
                turn_away(connection, m.Later(0, SECONDS_UNTIL_ROOM, why))
                return
        except SourceError as error:
            _log.warning("refused process %d: %s", pid, error)
            turn_away(connection, m.Failure.of(error))
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
                Conversation(connection, pid, self).run()
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


def turn_away(connection: socket.socket, word: m.Message) -> None:
    """Say one thing and hang up."""
    with connection, suppress(OSError):
        connection.settimeout(1.0)
        connection.sendall(wire.frame(word))
