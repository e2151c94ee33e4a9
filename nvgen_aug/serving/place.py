"""Place: the private directory of a server's socket, lock and log, and how it is found."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from time import monotonic
from time import sleep

from ..errors import SourceError
from .connection import PREFIX

SOCKET_NAME = "socket"
LOCK_NAME = "lock"
ADDRESS_NAME = "address"
SHARED_NAME = "shared"
SECONDS_BETWEEN_LOOKS = 0.02
# What `sun_path` holds, less its final zero.
MAX_PATH_BYTES = 107


def new_directory(bases: Sequence[Path]) -> tuple[Path, int]:
    """A private directory for a server, and the descriptor of the lock that says it is in use.

    Directories of servers that were killed together with their owners are removed.

    Args:
        bases: Where it may be, the best first.

    Raises:
        SourceError: if there is no place whose path is short enough for a socket.
    """
    start = _start()
    for base in bases:
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
        f"{', '.join(map(str, bases))}; set XDG_RUNTIME_DIR or TMPDIR to one"
    )
    raise SourceError(msg)


def addresses(bases: Sequence[Path]) -> list[str]:
    """Addresses of the servers of this user that run now."""
    found = []
    for base in bases:
        for lock in sorted(base.glob(f"{_start()}*/{LOCK_NAME}")):
            with suppress(OSError):
                check_private(lock.parent)
                if _is_held(lock):
                    found += _addresses(lock.parent)
    return list(dict.fromkeys(found))


def shared_directories(bases: Sequence[Path], name: str) -> list[Path]:
    """Directories of servers that run now and were started under a name, for others to use."""
    found = []
    for base in bases:
        for lock in sorted(base.glob(f"{_start()}*/{LOCK_NAME}")):
            with suppress(OSError, SourceError):
                check_private(lock.parent)
                is_it = (lock.parent / SHARED_NAME).read_text(encoding="utf-8") == name
                if is_it and _is_held(lock):
                    found.append(lock.parent)
    return found


def await_end(directory: Path, seconds: float) -> bool:
    """Wait until the server of a directory is gone; false if it was not in time."""
    deadline = monotonic() + seconds
    with suppress(OSError):  # the directory goes with its server
        while _is_held(directory / LOCK_NAME):
            if monotonic() > deadline:
                return False
            sleep(SECONDS_BETWEEN_LOOKS)
    return True


@contextmanager
def only_one(bases: Sequence[Path], name: str) -> Iterator[None]:
    """Hold a lock among the processes of this user that look for a server of a name.

    Raises:
        SourceError: if there is nowhere to put it.
    """
    handle = None
    while handle is None:
        path, handle = _opened_lock(bases, f"{_start()}{name}.lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever held it took the file away: then this is a lock on nothing.
            is_there = path.stat().st_ino == os.fstat(handle).st_ino
        except FileNotFoundError:
            is_there = False
        except BaseException:
            os.close(handle)
            raise
        if not is_there:
            os.close(handle)
            handle = None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        # Said aloud: a child forked meanwhile would hold the lock after our close.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def note_address(directory: Path, address: str) -> None:
    """Say in a server's directory that its socket is elsewhere, so that it can be found."""
    (directory / ADDRESS_NAME).write_text(address, encoding="utf-8")


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


@contextmanager
def claimed(path: Path) -> Iterator[None]:
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


def _opened_lock(bases: Sequence[Path], name: str) -> tuple[Path, int]:
    for base in bases:
        with suppress(OSError):
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            return base / name, os.open(base / name, flags, 0o600)
    msg = f"no writable directory among {', '.join(map(str, bases))}; set XDG_RUNTIME_DIR to one"
    raise SourceError(msg)


def _start() -> str:
    return f"nvgen-{os.getuid()}-"


def _addresses(directory: Path) -> list[str]:
    """That of its socket, and of those of further generators beside it."""
    try:
        path = Path((directory / ADDRESS_NAME).read_text(encoding="utf-8").removeprefix(PREFIX))
    except FileNotFoundError:
        path = directory / SOCKET_NAME
    others = sorted(path.parent.glob(f"{path.name}.[0-9]*"))
    return [f"{PREFIX}{each}" for each in (path, *others)]


def _sweep(base: Path, start: str) -> None:
    """Take away what processes left that were killed: directories, and locks of `only_one`."""
    with suppress(OSError):
        for stale in (*base.glob(f"{start}*/{LOCK_NAME}"), *base.glob(f"{start}*.{LOCK_NAME}")):
            with suppress(OSError):
                lock = os.open(stale, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if not _is_locked(lock):
                        continue
                    if stale.parent == base:
                        stale.unlink()
                    else:
                        shutil.rmtree(stale.parent, ignore_errors=True)
                finally:
                    os.close(lock)


def _is_held(path: Path) -> bool:
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return not _is_locked(lock)
    finally:
        os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
