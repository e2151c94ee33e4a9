"""Lifecycle: starting a resident process, and stopping it again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import weakref
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
from .client import Client
from .connection import LOG_NAME
from .connection import PREFIX
from .connection import log_tail
from .resident import MAX_PATH_BYTES
from .resident import SECONDS_TO_DRAIN
from .resident import SOCKET_NAME

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOCK_NAME = "lock"
SECONDS_TO_LAST_FIGURES = 2.0


@final
class Resident:
    """A server process that this process started, and stops.

    It needs no `__main__` guard and no thread here, and it dies with this process,
    however that ends.

    Args:
        factory: `module:function` that returns the engine, called in the new process.
        arguments: Its keyword arguments, as JSON values.
        start_timeout: Seconds until it must be ready.

    Raises:
        NvgenError: whatever the factory raised, in its own class.
        ServerDied: if the process ended without a word.
        ServerUnavailable: if it was not ready in time.
        SourceError: on a system that is not Linux.
    """

    __slots__ = ("__weakref__", "_end", "address", "pid")

    def __init__(
        self, factory: str, arguments: Mapping[str, Any], *, start_timeout: float = 600.0
    ) -> None:
        if sys.platform != "linux":
            msg = f"`serve` needs Linux, this is {sys.platform}; use `open_source` in this process"
            raise SourceError(msg)
        text = json.dumps(dict(arguments))
        directory, lock = new_directory()
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
        launch = m.Launch(factory, text, str(directory), os.getpid())
        try:
            with control:
                control.settimeout(start_timeout)
                control.sendall(m.frame(launch))
                m.receive(control, m.Ready)
        except TimeoutError as error:
            msg = f"the server was not ready within {start_timeout:g} s{log_tail(self.address)}"
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
        """Process id of the server."""
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


def new_directory() -> tuple[Path, int]:
    """A private directory for a server, and the descriptor of the lock that says it is in use.

    Directories of servers that were killed together with their owners are removed.

    Raises:
        SourceError: if there is no place whose path is short enough for a socket.
    """
    start = f"nvgen-{os.getuid()}-"
    for base in _bases():
        _sweep(base, start)
        for _ in range(3):
            try:
                directory = Path(tempfile.mkdtemp(prefix=start, dir=base))
            except OSError:
                break
            if len(os.fsencode(directory / SOCKET_NAME)) > MAX_PATH_BYTES:
                directory.rmdir()
                break
            directory.chmod(0o700)
            lock = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            if _is_locked(lock) and (directory / LOCK_NAME).exists():
                return directory, lock
            os.close(lock)  # another process sweeps it, or has swept it in between
    msg = (
        f"no writable directory with a short path for the server's socket among "
        f"{', '.join(map(str, _bases()))}; set XDG_RUNTIME_DIR or TMPDIR to one"
    )
    raise SourceError(msg)


def _bases() -> list[Path]:
    run = os.environ.get("XDG_RUNTIME_DIR")
    named = ([run] if run else []) + [tempfile.gettempdir(), "/tmp"]
    return [Path(name) for name in dict.fromkeys(named)]


def _sweep(base: Path, start: str) -> None:
    with suppress(OSError):
        for stale in base.glob(f"{start}*/{LOCK_NAME}"):
            with suppress(OSError):
                lock = os.open(stale, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if _is_locked(lock):
                        shutil.rmtree(stale.parent, ignore_errors=True)
                finally:
                    os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
