"""Resident: a process that owns a generator and answers at a socket until it is told to stop."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from threading import current_thread
from threading import main_thread
from time import sleep

from ..errors import SourceError
from . import messages as m
from .connection import PREFIX
from .engine import Engine
from .server import Server

SOCKET_NAME = "socket"
# What `sun_path` holds, less its final zero.
MAX_PATH_BYTES = 107
# How long the volume in work may take to reach the cache after SIGTERM.
SECONDS_TO_DRAIN = 10.0

_log = logging.getLogger(__name__)


def serve_engine(
    make_engine: Callable[[], Engine], path: Path, *, on_ready: Callable[[str], None]
) -> None:
    """Serve in this process, in the foreground, until SIGINT or SIGTERM.

    Args:
        make_engine: Called once the socket's place is known to be ours.
        path: Where the socket will be; its directory must be private, or is made so.
        on_ready: Called with the address once clients can connect.

    Raises:
        SourceError: if another server has that place, or it is not private.
    """
    with _claimed(path), _stop_signals() as stop:
        _serve(make_engine(), path, [stop], lambda: on_ready(f"{PREFIX}{path}"))


def serve_owner(control: socket.socket) -> None:
    """Serve the process at the other end of a control socket until it says so or is gone."""
    launch = m.receive(control, m.Launch)
    directory = Path(launch.directory)
    try:
        path = directory / SOCKET_NAME
        module, _, name = launch.factory.partition(":")
        # The command comes from whoever assembles, so serving imports no generator.
        engine: Engine = getattr(import_module(module), name)(**json.loads(launch.arguments))
        ready = m.Ready(f"{PREFIX}{path}")
        with _stop_signals() as stop:
            stops = [_watch(launch.owner), stop]
            _serve(engine, path, stops, lambda: control.sendall(m.frame(ready)))
    except Exception as error:
        _log.exception("the server cannot go on")
        with suppress(OSError):
            control.sendall(m.frame(m.Failure.of(error)))
        raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def listen(path: Path) -> socket.socket:
    """A listening socket in a private directory, which no other user can reach.

    Raises:
        SourceError: if the directory is open to others, or the path is too long.
    """
    check_private(path.parent)
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        msg = f"the path of a socket may have {MAX_PATH_BYTES} bytes, got {path}; use a shorter one"
        raise SourceError(msg)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(128)
    except OSError as error:
        listener.close()
        msg = f"cannot listen at {path}: {error}"
        raise SourceError(msg) from error
    return listener


def check_private(directory: Path) -> None:
    """Raise `SourceError` unless a directory is ours and closed to everybody else."""
    try:
        info = directory.lstat()
    except OSError as error:
        msg = f"the directory {directory} for the socket cannot be used: {error}"
        raise SourceError(msg) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        msg = (
            f"the directory {directory} for the socket must belong to user {os.getuid()} with "
            f"mode 0700, got user {info.st_uid} and mode {stat.S_IMODE(info.st_mode):04o}; "
            "name one that does not exist yet, or `chmod 700` it"
        )
        raise SourceError(msg)


def _serve(engine: Engine, path: Path, stops: list[int], on_ready: Callable[[], None]) -> None:
    with suppress(FileNotFoundError):
        path.unlink()  # left by a server that was killed: the place is known to be ours
    try:
        server = Server(engine, listen(path))
        try:
            on_ready()
            server.serve_until(stops)
        finally:
            path.unlink(missing_ok=True)  # nobody new from here on
            engine.close(SECONDS_TO_DRAIN)
            server.close()
    finally:
        engine.close(0.0)


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Hold the lock file beside a socket, so that two servers never share an address."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the directory {path.parent} for the socket cannot be made: {error}"
        raise SourceError(msg) from error
    check_private(path.parent)
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            msg = (
                f"another server (process {file.read().strip() or 'unknown'}) answers at "
                f"{PREFIX}{path}; use that one, or another address"
            )
            raise SourceError(msg) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def _stop_signals() -> Iterator[int]:
    """A descriptor that can be read once SIGINT or SIGTERM came."""
    read, write = os.pipe()
    before = {}
    try:
        if current_thread() is main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda *_: _poke(write))
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _watch(owner: int) -> int:
    """A descriptor that can be read once the owner, our parent, is gone.

    Not the end of file of a pipe: forked workers of the owner would hold that open.
    """
    try:
        fd = os.pidfd_open(owner)
    except OSError:  # a sandbox that forbids it, or the owner is gone already
        fd, write = os.pipe()
        Thread(target=_watch_parent, args=(owner, write), daemon=True).start()
        return fd
    if os.getppid() != owner:  # gone before we looked, and its number may be somebody else's
        msg = f"the owner, process {owner}, is gone"
        raise SourceError(msg)
    return fd


def _watch_parent(owner: int, write: int) -> None:
    while os.getppid() == owner:
        sleep(0.5)
    _poke(write)


def _poke(write: int) -> None:
    with suppress(OSError):
        os.write(write, b"!")


def main() -> None:
    """What `python -m nvgen_aug.serving` does; only `serve` starts it."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("this module is started by `nvgen_aug.serve`; in a shell use `nvgen-aug serve`")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    code = 1
    try:
        with socket.socket(fileno=int(sys.argv[1])) as control:
            serve_owner(control)
        code = 0
    finally:
        logging.shutdown()
        sys.stderr.flush()
        # A generation that is still under way cannot be interrupted, and must not hold us here.
        os._exit(code)
