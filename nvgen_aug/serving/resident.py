"""Resident: a supervised generator at an address, until it is told to stop."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

from . import messages as m
from . import wire
from .connection import PREFIX
from .endings import stop_signals
from .endings import wake_when_orphaned
from .owners import Owners
from .place import SOCKET_NAME
from .place import listen
from .restarts import Patience
from .supervisor import Supervisor
from .supervisor import serve_together
from .working import work


def serve_owner(control: socket.socket) -> None:
    """Serve the process at the other end of a control socket until it says so or is gone."""
    launch = wire.receive(control, m.Launch)
    end, poke = os.pipe()
    directory = Path(launch.directory)
    path = directory / SOCKET_NAME
    address = f"{PREFIX}{path}"

    def ready() -> None:
        control.sendall(wire.frame(m.Ready(address)))

    try:
        owners = Owners(directory, launch.owner, control, address, lambda: os.close(poke))
        owners.start()
        patience = Patience.from_json(launch.patience)
        with stop_signals() as stop:
            supervise(launch.factory, launch.arguments, path, patience, [end, stop], ready)
    except Exception as error:
        with suppress(OSError):
            control.sendall(wire.frame(m.Failure.of(error)))
        raise  # and leave the directory to the owner, who may want to read the log
    shutil.rmtree(directory, ignore_errors=True)


def supervise(
    factory: str,
    arguments: Sequence[str],
    path: Path,
    patience: Patience,
    stops: Sequence[int],
    on_ready: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Listen at a path and keep generators alive behind it.

    Args:
        factory: `module:function` that makes an engine.
        arguments: Its keyword arguments as JSON, once for each generator.
        path: Of the socket; the place is known to be ours. A second generator listens at the
            same path with `.1` behind it, and so on; clients learn that from the first.
        patience: What is borne of their processes.
        stops: Descriptors that can be read once it is to end.
        on_ready: Called once clients get volumes.
        environment: Of those processes; `None` is this one's.

    Raises:
        NvgenError: whatever keeps a first process from being ready.
    """
    paths = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, len(arguments)))]
    members = tuple(f"{PREFIX}{each}" for each in paths) if len(paths) > 1 else ()
    with ExitStack() as stack:
        supervisors = []
        for each, text in zip(paths, arguments, strict=True):
            listener = stack.enter_context(_listening(each))
            order = m.Begin(factory, text, f"{PREFIX}{each}", members, 0, 0, "")
            supervisors.append(Supervisor(listener, order, patience, environment))
        if len(supervisors) == 1:
            supervisors[0].serve_until(stops, on_ready)
        else:
            serve_together(supervisors, stops, on_ready)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with suppress(FileNotFoundError):
        path.unlink()  # left by a server that was killed: the place is known to be ours
    with listen(path) as listener:
        try:
            yield listener
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
