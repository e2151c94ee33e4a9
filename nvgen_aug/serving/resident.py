"""Resident: a supervised generator at an address, until it is told to stop."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from . import messages as m
from . import wire
from .connection import PREFIX
from .endings import stop_signals
from .endings import wake_when_orphaned
from .endings import watched
from .place import SOCKET_NAME
from .place import listen
from .restarts import Patience
from .supervisor import Supervisor
from .working import work


def serve_owner(control: socket.socket) -> None:
    """Serve the process at the other end of a control socket until it says so or is gone."""
    launch = wire.receive(control, m.Launch)
    directory = Path(launch.directory)
    path = directory / SOCKET_NAME
    address = f"{PREFIX}{path}"

    def ready() -> None:
        control.sendall(wire.frame(m.Ready(address)))

    try:
        order = m.Begin(
            launch.factory, launch.arguments, address, supervisor=0, restarts=0, last_error=""
        )
        with stop_signals() as stop:
            stops = [watched(launch.owner), stop]
            supervise(order, path, Patience.from_json(launch.patience), stops, ready)
    except Exception as error:
        with suppress(OSError):
            control.sendall(wire.frame(m.Failure.of(error)))
        raise  # and leave the directory to the owner, who may want to read the log
    shutil.rmtree(directory, ignore_errors=True)


def supervise(
    order: m.Begin,
    path: Path,
    patience: Patience,
    stops: Sequence[int],
    on_ready: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Listen at a path and keep a generator alive behind it.

    Args:
        order: What the generator's process is told.
        path: Of the socket; the place is known to be ours.
        patience: What is borne of that process.
        stops: Descriptors that can be read once it is to end.
        on_ready: Called once clients get volumes.
        environment: Of that process; `None` is this one's.

    Raises:
        NvgenError: whatever keeps the first process from being ready.
    """
    with suppress(FileNotFoundError):
        path.unlink()  # left by a server that was killed: the place is known to be ours
    with listen(path) as listener:
        try:
            Supervisor(listener, order, patience, environment).serve_until(stops, on_ready)
        finally:
            path.unlink(missing_ok=True)


def main() -> None:
    """What `python -m nvgen_aug.serving` does; only `serve` and a supervisor start it."""
    numbers = sys.argv[1:]
    if len(numbers) not in (1, 2) or not all(number.isdigit() for number in numbers):
        sys.exit("this module is started by `nvgen_aug.serve`; in a shell use `nvgen-aug serve`")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    wake_when_orphaned()
    code = 1
    try:
        with socket.socket(fileno=int(numbers[0])) as control:
            if len(numbers) == 1:
                serve_owner(control)
            else:
                with socket.socket(fileno=int(numbers[1])) as listener:
                    work(control, listener)
        code = 0
    finally:
        logging.shutdown()
        sys.stderr.flush()
        # A generation that is still under way cannot be interrupted, and must not hold us here.
        os._exit(code)
