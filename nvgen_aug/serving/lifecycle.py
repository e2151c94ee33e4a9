"""Lifecycle: starting a resident process, and stopping it again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import weakref
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import final

from ..errors import ServerDied
from ..errors import ServerUnavailable
from ..errors import SourceError
from . import messages as m
from . import wire
from .client import Client
from .connection import LOG_NAME
from .connection import PREFIX
from .connection import log_tail
from .endings import stop_signals
from .owners import OWNERS_NAME
from .place import SHARED_NAME
from .place import SOCKET_NAME
from .place import addresses
from .place import await_end
from .place import claimed
from .place import new_directory
from .place import note_address
from .place import only_one
from .place import shared_directories
from .resident import supervise
from .restarts import Patience
from .server import peer_of
from .ward import SECONDS_TO_DRAIN

SECONDS_TO_JOIN = 5.0


@final
class Resident:
    """A supervised generator that this process uses: its own, or one that it shares.

    It needs no `__main__` guard and no thread here, and it dies with the last process
    that uses it, however that ends.

    Args:
        factory: `module:function` that returns the engine, called in the generator's process.
        arguments: Its keyword arguments, as JSON values; a list of them makes a generator of
            each, all behind one address.
        patience: What is borne of the generator's process until it is replaced.
        is_shared: Whether all processes of this user that ask for the very same use one.

    Raises:
        NvgenError: whatever the factory raised, in its own class.
        ServerDied: if the process ended without a word.
        ServerUnavailable: if it was not ready in time.
        SourceError: on a system that is not Linux.
    """

    __slots__ = ("__weakref__", "_end", "address", "pid")

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patience: Patience | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        if sys.platform != "linux":
            msg = f"`serve` needs Linux, this is {sys.platform}; use `open_source` in this process"
            raise SourceError(msg)
        launch = m.Launch(factory, _texts(arguments), "", os.getpid(), Patience().to_json())
        if patience is not None:
            launch = replace(launch, patience=patience.to_json())
        if not is_shared:
            self._start(launch, "")
            return
        name = _name(launch)
        with only_one(bases(), name):
            for directory in shared_directories(bases(), name):
                if self._join(directory):
                    return
                # It ends just now, and may hold the device until then.
                await_end(directory, SECONDS_TO_DRAIN * 2)
            self._start(launch, name)

    def _join(self, directory: Path) -> bool:
        """Be one more owner of a server; false if it takes nobody any more."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            control.settimeout(SECONDS_TO_JOIN)
            control.connect(os.fspath(directory / OWNERS_NAME))
            self.address = wire.receive(control, m.Ready).address
            self.pid = peer_of(control)[0]
        except (EOFError, OSError, SourceError):
            control.close()
            return False
        self._end = weakref.finalize(self, _leave, os.getpid(), control, self.pid, None, directory)
        return True

    def _start(self, launch: m.Launch, name: str) -> None:
        directory, lock = new_directory(bases())
        try:
            (directory / SHARED_NAME).write_text(name, encoding="utf-8")
            process, control = _spawn(directory, lock)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            os.close(lock)  # the server holds it now
        self.pid = process.pid
        self.address = f"{PREFIX}{directory / SOCKET_NAME}"
        self._end = weakref.finalize(
            self, _leave, os.getpid(), control, self.pid, process, directory
        )
        seconds = Patience.from_json(launch.patience).start
        try:
            control.settimeout(seconds)
            control.sendall(wire.frame(replace(launch, directory=str(directory))))
            wire.receive(control, m.Ready)
        except ServerDied as error:
            raise ServerDied(self._failed(f"{error}{log_tail(self.address)}")) from error
        except TimeoutError as error:
            msg = f"the server was not ready within {seconds:g} s{log_tail(self.address)}"
            raise ServerUnavailable(self._failed(msg)) from error
        except (EOFError, OSError) as error:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_DRAIN)
            msg = (
                f"the server process ended with code {process.returncode} before it was ready"
                f"{log_tail(self.address)}"
            )
            raise ServerDied(self._failed(msg)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Need it no more; the last one stops it, after the volume it works on.

        A forked child leaves it alone.
        """
        self._end()

    def _failed(self, msg: str) -> str:
        self.close()
        return msg


def data_home() -> Path:
    """Where what is installed for this user lives: `NVGEN_AUG_HOME`, or the desktop's data folder.

    See the XDG Base Directory Specification.
    """
    own = os.environ.get("NVGEN_AUG_HOME")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "nvgen-aug"


def bases() -> list[Path]:
    """Where the directories of servers may lie, the best first."""
    run = os.environ.get("XDG_RUNTIME_DIR")
    named = ([run] if run else []) + [tempfile.gettempdir(), "/tmp"]
    return [Path(name) for name in dict.fromkeys(named)]


def running() -> list[str]:
    """Addresses of the servers of this user that run now on this machine."""
    return addresses(bases())


def serve_here(
    factory: str,
    arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    address: str | None = None,
    patience: Patience | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Supervise a generator from this process, in the foreground, until SIGINT or SIGTERM.

    Args:
        factory: `module:function` that returns the engine, called in the generator's process.
        arguments: Its keyword arguments, as JSON values; or a list of them, as `Resident` has it.
        address: `unix:` and a path in a directory that is private or does not exist yet;
            `None` makes a directory.
        patience: What is borne of that process.
        on_ready: Called with the address once clients get volumes.

    Raises:
        SourceError: if another server has that address, or its directory is not private.
        NvgenError: whatever the factory raised, or the first volume.
    """
    texts = _texts(arguments)
    wanted = None
    if address is not None:
        wanted = Path(Client(address).address.removeprefix(PREFIX)).absolute()
    directory, lock = new_directory(bases())
    try:
        path = wanted or directory / SOCKET_NAME
        where = f"{PREFIX}{path}"
        with claimed(path), stop_signals() as stop:
            note_address(directory, where)
            supervise(
                factory,
                texts,
                path,
                patience or Patience(),
                [stop],
                lambda: on_ready(where),
                _environment(),
            )
    finally:
        # Before the lock is free: from then on another process may sweep it.
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _spawn(directory: Path, lock: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        with theirs, (directory / LOG_NAME).open("wb") as log:
            process = subprocess.Popen(
                # -P: a file of the user's in this folder must not shadow a library's.
                [sys.executable, "-P", "-m", "nvgen_aug.serving", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), lock),
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the server
                env=_environment(),
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    # From a bare source tree the new process would not find this package.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{before}{os.pathsep}{root}" if before else root
    return environment


def _leave(
    owner: int,
    control: socket.socket,
    pid: int,
    process: subprocess.Popen[bytes] | None,
    directory: Path,
) -> None:
    if os.getpid() != owner:
        return
    with control:
        if not _is_last(control):
            if process is not None:
                # It is still our child, and somebody else's server: not a thing to warn of.
                process.returncode = 0
            return
    if process is None:
        if not await_end(directory, SECONDS_TO_DRAIN * 2):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        process.terminate()  # heard already, unless it hangs or was never ready
        try:
            process.wait(SECONDS_TO_DRAIN * 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def _is_last(control: socket.socket) -> bool:
    """Take our leave of a server; whether it ends now, as one does that cannot answer."""
    try:
        control.settimeout(SECONDS_TO_JOIN)
        control.sendall(wire.frame(m.Leave()))
        return wire.receive(control, m.Left).owners == 0
    except (EOFError, OSError, SourceError):
        return True


def _texts(arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    each = [arguments] if isinstance(arguments, Mapping) else arguments
    return tuple(json.dumps(dict(one), sort_keys=True) for one in each)


def _name(launch: m.Launch) -> str:
    """The same for two processes that would start the same server on this machine."""
    around = (data_home(), os.environ.get("CUDA_VISIBLE_DEVICES"), sys.executable, __file__)
    what = (launch.factory, *launch.arguments, launch.patience, *map(str, around))
    return hashlib.sha256("\0".join(what).encode()).hexdigest()[:16]
