"""Layout: the directory of a cache, its names, and the checks before it is used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from typing import final

from ..errors import CacheError
from ..spec import DIGEST

FORMAT = 1
VERSION_FILE = "nvgen-cache.json"
COMMIT_FILE = "commit.json"

Kind = Literal["volumes", "latents", "blobs"]
# From the one that is easiest to make again to the one that is not: the order of eviction.
KINDS: tuple[Kind, ...] = ("volumes", "latents", "blobs")

_PARTIAL = re.compile(r"[0-9a-f]{64}\.(\d+)\.([0-9a-f]{8})\.[0-9a-f]{16}")
_A_DAY = 86_400.0


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie below the root of a cache.

    Args:
        root: The directory, absolute and free of symbolic links.
    """

    root: Path

    @property
    def partials(self) -> Path:
        """Entries that are being written or removed."""
        return self.root / "partial"

    @property
    def quarantine(self) -> Path:
        """Damaged entries, kept for a look until room is needed."""
        return self.root / "quarantine"

    @property
    def pins(self) -> Path:
        """Lists of entries that are not evicted, by the name of whoever needs them."""
        return self.root / "pins"

    @property
    def lock(self) -> Path:
        """The file that writers lock while they publish, evict or set aside."""
        return self.root / "lock"

    def entry(self, kind: Kind, key: str) -> Path:
        """The directory of an entry."""
        check_key(key)
        return self.root / kind / key[:2] / key

    def new_partial(self, key: str) -> Path:
        """A name beside the entries that nobody else uses."""
        check_key(key)
        name = f"{key}.{os.getpid()}.{_place()}.{secrets.token_hex(8)}"
        return self.partials / name

    def abandoned_partials(self) -> list[Path]:
        """Partial entries whose writer is gone.

        A process id means something only where it was given, so those written
        on another machine, or in another container, are left for a day.
        """
        found = []
        for path in self.partials.iterdir():
            match = _PARTIAL.fullmatch(path.name)
            try:
                age = time.time() - path.lstat().st_mtime
            except OSError:
                continue  # its writer has just published or removed it
            # Not by its age, where its writer can be looked for: a clock may jump by years.
            here = match is not None and match[2] == _place()
            if (match is not None and not _is_alive(int(match[1]))) if here else age > _A_DAY:
                found.append(path)
        return found


def check_key(key: str) -> str:
    """The key, if it is 64 lower-case hex digits.

    Raises:
        CacheError: if it is anything else, so that no path is made from it.
    """
    if not isinstance(key, str) or not DIGEST.fullmatch(key):
        msg = f"a cache key must be 64 hex digits as `card.volume_key` gives, got {key!r}"
        raise CacheError(msg)
    return key


def open_layout(path: str | os.PathLike[str], *, read_only: bool) -> Layout:
    """The layout of a cache directory, made if it is not there yet.

    Raises:
        CacheError: if the directory cannot be used, naming the path, who asked and the fix.
    """
    root = Path(os.path.realpath(path))
    if any("\udc80" <= letter <= "\udcff" for letter in str(root)):
        # How Python writes bytes that it cannot read, which no library of ours understands.
        msg = (
            f"cache directory {str(root)!a} has a name that is not text in this locale; name "
            "another, or set LC_ALL=C.UTF-8"
        )
        raise CacheError(msg)
    try:
        if not read_only:
            # Private to its owner: who can write here decides what others train on.
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = root.stat().st_mode
    except FileNotFoundError as error:
        msg = f"there is no cache at {root}; open it once for writing, or check `cache=`"
        raise CacheError(msg) from error
    except OSError as error:
        raise CacheError(_unusable(root, error.strerror or str(error))) from error
    if not stat.S_ISDIR(mode):
        raise CacheError(_unusable(root, "it is not a directory"))
    if mode & stat.S_IWOTH:
        msg = (
            f"cache directory {root} is writable by everybody (mode {stat.S_IMODE(mode):04o}), so "
            f"anybody could change the training data; run `chmod o-w {root}` or name another"
        )
        raise CacheError(msg)
    access = os.R_OK | os.X_OK | (0 if read_only else os.W_OK)
    if not os.access(root, access):
        raise CacheError(_unusable(root, "permission denied"))
    layout = Layout(root)
    try:
        _check_version(layout, read_only=read_only)
        if not read_only:
            for name in ("partial", "quarantine", *KINDS):
                (root / name).mkdir(mode=0o700, exist_ok=True)
            layout.lock.touch(mode=0o600)
    except OSError as error:
        raise CacheError(_unusable(root, error.strerror or str(error))) from error
    for name in ("partial", "quarantine", "pins", *KINDS):
        if (root / name).is_symlink():
            msg = f"{root / name} is a symbolic link, which a cache never has; remove it"
            raise CacheError(msg)
    return layout


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the path and the fix.

    Raises:
        CacheError: for any `OSError` inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            msg = "too many files are open to use the cache; raise the limit with `ulimit -n`"
            raise CacheError(msg) from error
        what = f"{error.filename}: " if error.filename else ""
        raise CacheError(_unusable(root, what + (error.strerror or str(error)))) from error


def fsync_directory(path: Path) -> None:
    """Make the names in a directory survive a power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_version(layout: Layout, *, read_only: bool) -> None:
    path = layout.root / VERSION_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.get("format") if isinstance(values, dict) else None
    except FileNotFoundError as error:
        strangers = [p.name for p in layout.root.iterdir() if VERSION_FILE not in p.name]
        if strangers and path.exists():  # another process has begun this cache since
            _check_version(layout, read_only=read_only)
            return
        if read_only or strangers:
            msg = (
                f"{layout.root} is not a cache: it has no {VERSION_FILE}"
                + (f" but holds `{min(strangers)}`" if strangers else "")
                + ("; check its path" if read_only else "; name an empty or a new directory")
            )
            raise CacheError(msg) from error
        partial = path.with_name(f".{VERSION_FILE}.{secrets.token_hex(8)}")
        partial.write_text(json.dumps({"format": FORMAT}) + "\n", encoding="utf-8")
        partial.replace(path)
        return
    except ValueError:
        found = None
    if found != FORMAT:
        msg = (
            f"cache {layout.root} has format {found!r} and this version of nvgen_aug reads format "
            f"{FORMAT}; upgrade nvgen_aug, or name another directory"
        )
        raise CacheError(msg)


def _unusable(root: Path, why: str) -> str:
    try:
        facts = os.stat(root)
        mode = f"mode {stat.S_IMODE(facts.st_mode):04o}, owner {facts.st_uid}"
    except OSError:
        mode = "mode unknown"
    return (
        f"cache directory {root} cannot be used by user {os.getuid()} ({mode}): {why}; "
        "name a directory of your own as `cache=`, or repair its permissions"
    )


def _place() -> str:
    """Eight hex digits for the machine and process namespace in which process ids count."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
