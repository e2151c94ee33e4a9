"""Working: what a generator's process does, from its first order to its end."""

from __future__ import annotations

import json
import logging
import os
import socket
from contextlib import suppress
from importlib import import_module
from threading import Event
from threading import Lock
from threading import Thread
from typing import final

from ..errors import DeviceLost
from . import messages as m
from . import wire
from .endings import stop_signals
from .endings import watched
from .servable import Servable
from .server import History
from .server import Server
from .ward import SECONDS_TO_DRAIN

SECONDS_BETWEEN_BEATS = 1.0
DEVICE_LOST = 3  # exit code

_log = logging.getLogger(__name__)


def work(control: socket.socket, listener: socket.socket) -> None:
    """Make the engine that the supervisor orders, prove that it works, and serve its clients.

    Raises:
        Exception: whatever kept it from doing so; the supervisor has been told.
    """
    for each in (control, listener):
        each.set_inheritable(False)  # what it starts itself must not hold them open
    begin = wire.receive(control, m.Begin)
    report = _Report(control)
    try:
        module, _, name = begin.factory.partition(":")
        # The command comes from whoever assembles, so serving imports no generator.
        engine: Servable = getattr(import_module(module), name)(**json.loads(begin.arguments))
    except Exception as error:
        _log.exception("the generator cannot be loaded")
        report.say(m.Failure.of(error))
        raise
    engine.when_device_lost(report.give_up)
    try:
        _serve(engine, begin, report, listener)
    except Exception as error:
        _log.exception("the generator cannot go on")
        report.say(m.Failure.of(error))
        raise
    finally:
        engine.close(0.0)


def _serve(engine: Servable, begin: m.Begin, report: _Report, listener: socket.socket) -> None:
    with stop_signals() as stop:
        gone = watched(begin.supervisor)
        # Ready is who has just made something, not who has a port open.
        engine.prove().result()
        history = History(begin.supervisor, begin.restarts, begin.last_error)
        server = Server(engine, listener, history=history, members=begin.members)
        try:
            report.say(m.Ready(begin.address))
            with report.beating(engine):
                server.serve_until([gone, stop])
        finally:
            engine.close(SECONDS_TO_DRAIN)
            server.close()
            os.close(gone)


@final
class _Report:
    """The line to the supervisor, which more than one thread speaks on."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = Lock()

    def say(self, message: m.Message) -> None:
        # A supervisor that is gone has stopped us already.
        with self._lock, suppress(OSError):
            self._control.sendall(wire.frame(message))

    def give_up(self, error: DeviceLost) -> None:
        """End this process before anybody gets an answer; clients ask the next one."""
        _log.error("%s", error)
        self.say(m.Failure.of(error))
        logging.shutdown()
        os._exit(DEVICE_LOST)

    def beating(self, engine: Servable) -> _Beats:
        return _Beats(self, engine)


@final
class _Beats:
    """A thread that says how the engine does, as long as the context lasts."""

    def __init__(self, report: _Report, engine: Servable) -> None:
        self._report = report
        self._engine = engine
        self._end = Event()
        self._thread = Thread(target=self._run, name="nvgen-beats", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_BEATS):
            health = self._engine.health()
            self._report.say(m.Beat(health.silent, health.longest))
