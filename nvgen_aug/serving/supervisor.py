"""Supervisor: keeps a generator's process alive, and speaks for it while there is none.

It owns the listening socket, which therefore outlives its child: a client that
comes while the child is replaced is told to come again, and never finds the
place empty. The child accepts clients itself, so no volume passes through here.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Lock
from threading import Thread
from time import monotonic
from typing import final

from ..errors import NvgenError
from ..errors import ServerDied
from ..errors import ServerUnavailable
from ..errors import SourceError
from . import messages as m
from .connection import has_input
from .messages import without_paths
from .restarts import Patience
from .restarts import Restarts
from .server import check_peer
from .server import peer_of
from .server import turn_away
from .ward import Ward

SECONDS_TO_COME_AGAIN = 0.3

_log = logging.getLogger(__name__)


@final
class Supervisor:
    """One child process with a generator, replaced whenever it dies, hangs or says it must.

    Args:
        listener: A listening Unix stream socket, which the child shares.
        work: What the child makes and of what; the rest of it is filled in here.
        patience: What is borne.
        environment: Of the child; `None` is this process's own.
    """

    def __init__(
        self,
        listener: socket.socket,
        work: m.Begin,
        patience: Patience,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment
        self._listener = listener
        listener.setblocking(False)  # the child may have taken the client that a poll has shown
        self._work = work
        self._patience = patience
        self._restarts = Restarts(patience)
        self._ward: Ward | None = None
        self._start_at = monotonic()
        self._was_ready = False

    def serve_until(self, stops: Sequence[int], on_ready: Callable[[], None]) -> None:
        """Keep a child alive until one of these descriptors can be read.

        Args:
            stops: Descriptors.
            on_ready: Called once, when the first child has made its canary.

        Raises:
            NvgenError: whatever kept the first child from being ready; later ones are replaced.
        """
        try:
            while True:
                ready = self._wait(stops)
                if ready & set(stops):
                    return
                if self._listener.fileno() in ready:
                    self._turn_away()
                self._tend(on_ready)
        finally:
            if self._ward is not None:
                self._ward.stop()

    def _wait(self, stops: Sequence[int]) -> set[int]:
        poll = select.poll()
        for fd in stops:
            poll.register(fd, select.POLLIN)
        ward = self._ward
        if ward is not None:
            poll.register(ward.control, select.POLLIN)
        if ward is None or not ward.is_ready:
            poll.register(self._listener, select.POLLIN)
        until = self._start_at if ward is None else ward.deadline(self._patience)
        milliseconds = max(0.0, until - monotonic()) * 1000
        return {fd for fd, _ in poll.poll(milliseconds + 1)}

    def _tend(self, on_ready: Callable[[], None]) -> None:
        ward = self._ward
        if ward is None:
            if monotonic() >= self._start_at:
                self._start()
            return
        was_ready = ward.is_ready
        try:
            while has_input(ward.control):
                ward.hear()
        except (EOFError, OSError, SourceError) as error:
            self._lost(ward, ward.last_words(error))
            return
        if ward.is_ready and not was_ready:
            if self._was_ready:
                _log.warning("the generator's process %d is ready", ward.pid)
            else:
                on_ready()
            self._was_ready = True
        why = ward.complaint(self._patience)
        if why:
            self._lost(ward, ServerUnavailable(why) if not ward.is_ready else ServerDied(why))

    def _start(self) -> None:
        past = self._restarts
        order = replace(
            self._work,
            supervisor=os.getpid(),
            restarts=past.count,
            last_error=past.last_error,
        )
        self._ward = Ward(self._listener, order, self._environment)

    def _lost(self, ward: Ward, error: NvgenError) -> None:
        ward.kill()
        self._ward = None
        if not self._was_ready:
            raise error
        delay = self._restarts.crashed(monotonic(), str(error))
        self._start_at = monotonic() + delay
        _log.warning("%s; it is started again in %.1f s", error, delay)

    def _turn_away(self) -> None:
        """Answer a client in the place of a child that is not there."""
        with suppress(OSError):
            connection, _ = self._listener.accept()
            try:
                check_peer(peer_of(connection)[1])
            except SourceError as error:
                turn_away(connection, m.Failure.of(error))
                return
            turn_away(connection, self._excuse())

    def _excuse(self) -> m.Message:
        restarts = self._restarts
        last = without_paths(restarts.last_error)
        if restarts.is_broken:
            left = max(0.0, self._start_at - monotonic())
            error = ServerDied(
                f"the generator died {self._patience.crashes} times within "
                f"{self._patience.within:g} s, the last time because {last}; the next try is in "
                f"{left:.0f} s, and the server's log has the rest"
            )
            return m.Failure.of(error)
        why = f"the generator is started again, because {last}" if last else "it is being started"
        return m.Later(0, SECONDS_TO_COME_AGAIN, why)


def serve_together(
    supervisors: Sequence[Supervisor], stops: Sequence[int], on_ready: Callable[[], None]
) -> None:
    """Keep several children alive, each by a thread, until one of these descriptors can be read.

    A child that dies is replaced while the others go on.

    Args:
        supervisors: One for each child.
        stops: Descriptors.
        on_ready: Called once, when the first of every child has made its canary.

    Raises:
        NvgenError: whatever kept a first child from being ready; the others are stopped, too.
    """
    failures: list[BaseException] = []
    loading = set(supervisors)
    lock = Lock()
    end, poke = os.pipe()

    def ready(supervisor: Supervisor) -> None:
        with lock:
            loading.discard(supervisor)
            if loading:
                return
        on_ready()

    def tend(supervisor: Supervisor) -> None:
        try:
            supervisor.serve_until([*stops, end], partial(ready, supervisor))
        except BaseException as error:
            failures.append(error)
            os.write(poke, b"!")

    threads = [Thread(target=tend, args=(each,), name="nvgen-supervisor") for each in supervisors]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os.close(end)
        os.close(poke)
    if failures:
        raise failures[0]
