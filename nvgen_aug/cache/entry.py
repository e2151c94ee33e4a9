"""Entry: one directory of the cache, sealed by a commit file that lists all others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from .chunks import Chunks
from .chunks import open_regular
from .layout import COMMIT_FILE
from .layout import FORMAT
from .layout import Kind
from .layout import fsync_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the codecs, JSON and the file system raise on damaged bytes.
DAMAGE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError)

_NAME = re.compile(r"[A-Za-z0-9_]+(\.json)?(/[A-Za-z0-9_]+(\.json)?)*")
_METADATA = "zarr.json"
_Signature = tuple[tuple[int, int, int], ...]


class Damaged(Exception):
    """An entry that is not what its commit file says. Never leaves this package."""


@final
@dataclass(frozen=True, slots=True)
class FileFact:
    """What the commit file says of one file; the CRC-32 is what is quick to check."""

    size: int
    sha256: str
    crc32: int

    def fits(self, content: bytes) -> bool:
        """Whether size and CRC-32 are those of a file's content."""
        return len(content) == self.size and zlib.crc32(content) == self.crc32

    def is_digest_of(self, content: bytes) -> bool:
        """Whether the SHA-256 is that of a file's content."""
        return hashlib.sha256(content).hexdigest() == self.sha256


@final
@dataclass(frozen=True, slots=True)
class Commit:
    """The content of a commit file.

    Args:
        kind: Folder of the entry.
        key: Its key.
        files: Every other file of the entry, by its path in it.
    """

    kind: str
    key: str
    files: Mapping[str, FileFact]

    @property
    def total_bytes(self) -> int:
        """Bytes of the entry, the commit file included."""
        return sum(fact.size for fact in self.files.values()) + len(self.to_json())

    def to_json(self) -> str:
        """The commit as JSON, one file a line."""
        files = {
            name: {"size": fact.size, "sha256": fact.sha256, "crc32": fact.crc32}
            for name, fact in sorted(self.files.items())
        }
        total = sum(fact.size for fact in self.files.values())
        values = {"format": FORMAT, "kind": self.kind, "key": self.key, "bytes": total}
        return json.dumps({**values, "files": files}, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: bytes, kind: str, key: str) -> Commit:
        """The commit that `to_json` wrote for this entry.

        Raises:
            Damaged: if it is anything else.
        """
        try:
            values = json.loads(text)
            files = {
                str(name): FileFact(int(f["size"]), str(f["sha256"]), int(f["crc32"]))
                for name, f in values["files"].items()
            }
            total = sum(fact.size for fact in files.values())
            said = (values["format"], values["kind"], values["key"], values["bytes"])
        except DAMAGE as error:
            msg = "the commit file cannot be read"
            raise Damaged(msg) from error
        if said != (FORMAT, kind, key, total) or not all(map(_NAME.fullmatch, files)):
            msg = f"the commit file is not one of {kind}/{key}"
            raise Damaged(msg)
        return cls(kind, key, files)


def seal(directory: Path, kind: Kind, key: str) -> Commit:
    """Bring all files of a partial entry to the disk, then write its commit file."""
    files = {}
    folders = [directory]
    for folder, path in walk(directory):
        if folder:
            folders.append(path)
            continue
        with path.open("rb") as file:
            content = file.read()
            os.fsync(file.fileno())
        name = path.relative_to(directory).as_posix()
        digest = hashlib.sha256(content).hexdigest()
        files[name] = FileFact(len(content), digest, zlib.crc32(content))
    commit = Commit(kind, key, files)
    with (directory / COMMIT_FILE).open("w", encoding="utf-8") as file:
        file.write(commit.to_json())
        file.flush()
        os.fsync(file.fileno())
    for path in reversed(folders):
        fsync_directory(path)
    return commit


def read_commit(directory: Path, kind: str, key: str) -> Commit:
    """The commit of an entry, without a look at the files that it lists.

    Raises:
        FileNotFoundError: if there is no such entry.
        Damaged: if the commit file is not one of this entry.
    """
    try:
        for folder in (directory, directory.parent):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                msg = f"{folder} is not a folder"
                raise Damaged(msg)
        content = read_file(directory / COMMIT_FILE)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        msg = f"the commit file of {directory} cannot be read: {error}"
        raise Damaged(msg) from error
    return Commit.from_json(content, kind, key)


@final
class Entry:
    """An entry that was found whole: every file that was listed, no other, and of its size.

    What the files hold is compared as well: metadata now, chunks with their checksums whenever
    they are read, and chunks that have none now.

    It holds no open files. `is_current` says whether the directory is still
    the one that was checked; a read counts only if that is true after it.
    """

    __slots__ = ("_arrays", "_signature", "attributes", "commit", "directory")

    def __init__(self, directory: Path, kind: str, key: str, *, thorough: bool = False) -> None:
        """Check an entry and open its arrays.

        Args:
            directory: Where it lies.
            kind: Its folder.
            key: Its key.
            thorough: Whether files are compared by SHA-256, too.

        Raises:
            FileNotFoundError: if there is no such entry.
            Damaged: if it is not whole.
        """
        self.directory = directory
        self.commit = read_commit(directory, kind, key)
        try:
            self._signature = self._look()
            names = [name for name in self.commit.files if name.endswith(_METADATA)]
            metadata = {name: json.loads(self._content(name)) for name in names}
            attributes = metadata.pop(_METADATA)["attributes"]
            self._arrays = {
                name.removesuffix(f"/{_METADATA}"): self._chunks(name, values)
                for name, values in metadata.items()
            }
            self._check_files(thorough)
        except DAMAGE as error:
            msg = f"{directory} is damaged: {error}"
            raise Damaged(msg) from error
        self.attributes: dict[str, Any] = attributes

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array.

        Raises:
            Damaged: if the entry has no such array.
        """
        if name not in self._arrays:
            msg = f"{self.directory} has no array `{name}`"
            raise Damaged(msg)
        return self._arrays[name].shape

    def read(
        self, name: str, box: tuple[slice, ...] = (), dtype: type[np.generic] | None = None
    ) -> NDArray[Any]:
        """Values of an array, or of a box of its last three axes.

        Raises:
            Damaged: if they cannot be decoded or have another type.
        """
        try:
            values = self._arrays[name].read(box)
        except DAMAGE as error:
            msg = f"{self.directory}/{name} cannot be decoded: {error}"
            raise Damaged(msg) from error
        if dtype is not None and values.dtype != dtype:
            msg = f"{self.directory}/{name} has type {values.dtype}"
            raise Damaged(msg)
        return values

    def is_current(self) -> bool:
        """Whether every file is still the one that was checked, by inode, size and time."""
        try:
            return self._look() == self._signature
        except (OSError, ValueError):
            return False

    def _look(self) -> _Signature:
        directory = os.fspath(self.directory)
        found = []
        for name in (*self.commit.files, COMMIT_FILE):
            facts = os.lstat(f"{directory}/{name}")
            if facts.st_nlink != 1:  # who has the other name could change it from elsewhere
                msg = f"`{name}` has {facts.st_nlink} names; copy a cache, do not link it"
                raise ValueError(msg)
            # The time of the commit file changes whenever the entry is used.
            time = 0 if name == COMMIT_FILE else facts.st_mtime_ns
            found.append((facts.st_ino, facts.st_size, time))
        return tuple(found)

    def _chunks(self, name: str, metadata: Mapping[str, Any]) -> Chunks:
        start = name.removesuffix(_METADATA)
        files = [
            other.removeprefix(start) for other in self.commit.files if other.startswith(start)
        ]
        return Chunks(self.directory / start, metadata, frozenset(files))

    def _check_files(self, thorough: bool) -> None:
        """See that exactly the files of the commit are there, with what it says of them.

        Of a file whose chunks are compared with their checksums whenever they are read, the
        size is enough, unless it is to be thorough.
        """
        seen = set()
        for folder, path in walk(self.directory):
            name = path.relative_to(self.directory).as_posix()
            if folder or name == COMMIT_FILE:
                continue
            array = self._arrays.get(name.partition("/")[0])
            if thorough or array is None or not array.has_checksums:
                self._content(name, thorough)
            elif path.lstat().st_size != self.commit.files[name].size:
                msg = f"`{name}` is not as long as it was written"
                raise ValueError(msg)
            seen.add(name)
        if seen != set(self.commit.files):
            msg = f"lacks {sorted(set(self.commit.files) - seen)}"
            raise ValueError(msg)

    def _content(self, name: str, thorough: bool = False) -> bytes:
        """What a file holds, compared with what the commit says of it."""
        content = read_file(self.directory / name)
        fact = self.commit.files[name]
        if not fact.fits(content) or (thorough and not fact.is_digest_of(content)):
            msg = f"`{name}` is not what was written"
            raise ValueError(msg)
        return content


def walk(directory: Path) -> Iterator[tuple[bool, Path]]:
    """Folders (true) and files (false) below a directory; anything else raises `ValueError`."""
    with os.scandir(directory) as found:
        children = sorted(found, key=lambda child: child.name)
    for child in children:
        if child.is_dir(follow_symlinks=False):
            yield True, Path(child.path)
            yield from walk(Path(child.path))
        elif child.is_file(follow_symlinks=False):
            yield False, Path(child.path)
        else:
            msg = f"`{child.name}` is neither a file nor a folder"
            raise ValueError(msg)


def read_file(path: Path) -> bytes:
    """The content of a regular file; `ValueError` for anything else, `OSError` for a link."""
    with open(open_regular(path), "rb") as file:
        return file.read()
