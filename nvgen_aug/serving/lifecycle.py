"""Lifecycle: starting a resident process, and stopping it again."""

from __future__ import annotations

import json
import os
import shutil
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
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import ServerDied
from ..errors import ServerUnavailable
from ..errors import SourceError
from ..source import SourceStats
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from . import messages as m
from . import wire
from .client import Client
from .connection import LOG_NAME
from .connection import PREFIX
from .connection import log_tail
from .endings import stop_signals
from .place import SOCKET_NAME
from .place import addresses
from .place import claimed
from .place import new_directory
from .place import note_address
from .resident import supervise
from .restarts import Patience
from .ward import SECONDS_TO_DRAIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS_TO_LAST_FIGURES = 2.0


@final
class Resident:
    """A supervised generator that this process started, and stops.

    It needs no `__main__` guard and no thread here, and it dies with this process,
    however that ends.

    Args:
        factory: `module:function` that returns the engine, called in the generator's process.
        arguments: Its keyword arguments, as JSON values.
        patience: What is borne of the generator's process until it is replaced.

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
        arguments: Mapping[str, Any],
        patience: Patience | None = None,
    ) -> None:
        if sys.platform != "linux":
            msg = f"`serve` needs Linux, this is {sys.platform}; use `open_source` in this process"
            raise SourceError(msg)
        text = json.dumps(dict(arguments))
        patience = patience or Patience()
        directory, lock = new_directory(bases())
        try:
            process, control = _spawn(directory, lock)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            os.close(lock)  # the server holds it now
        self.pid = process.pid
        self.address = f"{PREFIX}{directory / SOCKET_NAME}"
        self._end = weakref.finalize(self, _stop, os.getpid(), process, directory)
        launch = m.Launch(factory, text, str(directory), os.getpid(), patience.to_json())
        try:
            with control:
                control.settimeout(patience.start)
                control.sendall(wire.frame(launch))
                wire.receive(control, m.Ready)
        except ServerDied as error:
            raise ServerDied(self._failed(f"{error}{log_tail(self.address)}")) from error
        except TimeoutError as error:
            msg = f"the server was not ready within {patience.start:g} s{log_tail(self.address)}"
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
        """Stop the process after the volume it works on; a forked child leaves it alone."""
        self._end()

    def _failed(self, msg: str) -> str:
        self.close()
        return msg


@final
class ServedSource(VolumeSource):
    """A volume source whose generator lives in a process of its own.

    A pickled copy, and a forked one, reach the same process; only the process that
    started it stops it.

    Args:
        resident: The process.
        source: How to reach it.
    """

    __slots__ = ("_figures", "_resident", "_source")

    def __init__(self, resident: Resident, source: VolumeSource) -> None:
        self._resident = resident
        self._source = source
        self._figures: SourceStats | None = None

    @property
    def pid(self) -> int:
        """Process id of the server: of the supervisor, whose child is the generator."""
        return self._resident.pid

    @property
    def address(self) -> str:
        """Where other processes reach it: `open_source(address)`."""
        return self._resident.address

    @property
    def card(self) -> VariantCard:
        """What is known of the variant."""
        return self._source.card

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults filled in."""
        return self._source.resolve(spec)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it."""
        return self._source.fetch(spec, crop)

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Hand over an array of the caller."""
        return self._source.put(array, affine)

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Say what will be fetched next."""
        self._source.prefetch(specs)

    def stats(self) -> SourceStats:
        """What the server has done so far, or had done when it was closed."""
        return self._figures or self._source.stats()

    def close(self) -> None:
        """Hang up, and stop the server if this process started it."""
        if self._figures is None:
            # Asked by another client first: a server that hangs must not delay its own end.
            with suppress(SourceError), Client(self.address, SECONDS_TO_LAST_FIGURES) as client:
                client.stats()
                self._figures = self._source.stats()
        self._source.close()
        self._resident.close()

    def __copy__(self) -> ServedSource:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ServedSource:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self._source,)


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
    arguments: Mapping[str, Any],
    *,
    address: str | None = None,
    patience: Patience | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Supervise a generator from this process, in the foreground, until SIGINT or SIGTERM.

    Args:
        factory: `module:function` that returns the engine, called in the generator's process.
        arguments: Its keyword arguments, as JSON values.
        address: `unix:` and a path in a directory that is private or does not exist yet;
            `None` makes a directory.
        patience: What is borne of that process.
        on_ready: Called with the address once clients get volumes.

    Raises:
        SourceError: if another server has that address, or its directory is not private.
        NvgenError: whatever the factory raised, or the first volume.
    """
    text = json.dumps(dict(arguments))
    wanted = None
    if address is not None:
        wanted = Path(Client(address).address.removeprefix(PREFIX)).absolute()
    directory, lock = new_directory(bases())
    try:
        path = wanted or directory / SOCKET_NAME
        where = f"{PREFIX}{path}"
        order = m.Begin(factory, text, where, supervisor=0, restarts=0, last_error="")
        with claimed(path), stop_signals() as stop:
            note_address(directory, where)
            supervise(
                order,
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


def _stop(owner: int, process: subprocess.Popen[bytes], directory: Path) -> None:
    if os.getpid() != owner:
        return
    process.terminate()
    try:
        process.wait(SECONDS_TO_DRAIN * 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def _as_it_is(source: VolumeSource) -> VolumeSource:
    return source
