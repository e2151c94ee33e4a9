"""Owners: the processes that use one server together; when the last has left, it ends.

A process joins by a socket of its own kind, beside that of the volumes, and leaves with a
word, or by its death. That is seen by pidfd: forked workers hold its socket open.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import final

from ..errors import SourceError
from . import messages as m
from . import wire
from .endings import watched
from .place import listen
from .server import check_peer
from .server import peer_of

OWNERS_NAME = "owners"
SECONDS_TO_SPEAK = 5.0

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class _Owner:
    pid: int
    connection: socket.socket
    pidfd: int

    def close(self) -> None:
        self.connection.close()
        os.close(self.pidfd)


@final
class Owners:
    """A thread of the supervisor that counts who uses it.

    Args:
        directory: Of the server.
        first: The process that started it, at the other end of ...
        control: ... this socket.
        address: What owners are told.
        on_last: Called once, when nobody is left.

    Raises:
        SourceError: if the first is gone already.
    """

    def __init__(
        self,
        directory: Path,
        first: int,
        control: socket.socket,
        address: str,
        on_last: Callable[[], None],
    ) -> None:
        self._address = address
        self._on_last = on_last
        self._listener = listen(directory / OWNERS_NAME)
        self._owners = [_Owner(first, control, watched(first))]

    def start(self) -> None:
        """Begin to count, in a thread that ends with the last owner."""
        Thread(target=self._run, name="nvgen-owners", daemon=True).start()

    def _run(self) -> None:
        while self._owners:
            poll = select.poll()
            poll.register(self._listener, select.POLLIN)
            for owner in self._owners:
                poll.register(owner.connection, select.POLLIN)
                poll.register(owner.pidfd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            for owner in list(self._owners):
                if owner.pidfd in ready:
                    self._drop(owner, said=False)
                elif owner.connection.fileno() in ready:
                    self._hear(owner)
            if self._owners and self._listener.fileno() in ready:
                self._join()
        # Whoever comes now finds nobody, and starts a server of its own.
        self._listener.close()
        self._on_last()

    def _join(self) -> None:
        with suppress(OSError, SourceError):
            connection, _ = self._listener.accept()
            try:
                pid, uid = peer_of(connection)
                check_peer(uid)
                if not pid:
                    msg = "a process of another container cannot be watched, so it cannot own us"
                    raise SourceError(msg)
                connection.settimeout(SECONDS_TO_SPEAK)
                owner = _Owner(pid, connection, watched(pid, is_parent=False))
            except (OSError, SourceError):
                connection.close()
                raise
            self._owners.append(owner)
            connection.sendall(wire.frame(m.Ready(self._address)))

    def _hear(self, owner: _Owner) -> None:
        try:
            wire.receive(owner.connection, m.Leave)
        except (EOFError, OSError, SourceError) as error:
            _log.info("process %d has left without a word: %s", owner.pid, error)
            self._drop(owner, said=False)
        else:
            self._drop(owner, said=True)

    def _drop(self, owner: _Owner, *, said: bool) -> None:
        self._owners.remove(owner)
        if said:
            with suppress(OSError):
                owner.connection.sendall(wire.frame(m.Left(len(self._owners))))
        owner.close()
