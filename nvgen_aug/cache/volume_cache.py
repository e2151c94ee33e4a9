"""VolumeCache: latents, decoded volumes and uploaded arrays on disk, one Zarr group per key."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Self
from typing import TypeVar
from typing import final

import numpy as np

from ..crop import Crop
from ..crop import CropRule
from ..errors import CacheError
from ..volume import Blob
from ..volume import Latent
from ..volume import SyntheticVolume
from ..volume import crop_text
from . import eviction
from .arrays import StoredArray
from .contents import describe
from .contents import read_blob
from .contents import read_latent
from .contents import read_volume
from .entry import Damaged
from .entry import Entry
from .layout import Kind
from .layout import Layout
from .layout import open_layout
from .publisher import Publisher
from .publisher import has_entry
from .publisher import touch

_Value = TypeVar("_Value")

# Opened entries to keep: each is a few kilobytes of metadata and no open file.
KEPT_OPEN = 64


@final
class VolumeCache:
    """A directory of volumes, addressed by key.

    An entry appears whole or not at all: it is written beside its final place,
    sealed by a commit file and renamed, so readers need no lock and a killed
    writer leaves only a partial directory that the next writer sweeps. What is
    damaged is a miss, never an error or wrong voxels.

    A copy that was pickled or deep-copied is read-only, as is `reader()`; it
    may be used in any process. After a fork nothing of the parent is used.

    Args:
        path: The directory, made if need be.
        max_bytes: Most bytes to hold, as a number or a text like `"200 GB"`. By
            default half of what is free on that file system, at most 50 GB.
        read_only: Only read, and mark what was used.

    Raises:
        CacheError: if the directory cannot be used, or was written by a later version.
    """

    __slots__ = ("_layout", "_local", "_publisher")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | str | None = None,
        read_only: bool = False,
    ) -> None:
        self._layout: Layout = open_layout(path, read_only=read_only)
        self._local = _Local()
        self._publisher: Publisher | None = None
        if not read_only:
            bound = eviction.byte_bound(max_bytes, self._layout)
            self._publisher = Publisher(self._layout, bound)
            self._publisher.sweep()

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._layout.root

    @property
    def read_only(self) -> bool:
        """Whether this view never writes."""
        return self._publisher is None

    def get_volume(
        self,
        key: str,
        crop: Crop | CropRule | None = None,
        vocabulary: Mapping[str, int] | None = None,
    ) -> SyntheticVolume | None:
        """A stored volume or a part of it, equal to `volume.cropped(crop)`; `None` is a miss.

        Args:
            key: From `VariantCard.volume_key`.
            crop: A box, of which only the chunks it touches are read; a rule, for
                which the label is read first; or `None` for the whole volume.
            vocabulary: Ids of the label names that a rule names.

        Raises:
            SpecError: if the crop leaves the volume.
            LabelError: if a rule names a label that the vocabulary lacks.
        """
        return self._get("volumes", key, lambda entry: read_volume(entry, crop, vocabulary or {}))

    def put_volume(self, key: str, volume: SyntheticVolume) -> bool:
        """Store a whole volume; false if it is there already or does not fit.

        Raises:
            CacheError: if this cache is read-only, the volume is only a part, or the
                disk is full even after eviction.
        """
        if volume.crop is not None:
            msg = f"only whole volumes are stored, got the crop {crop_text(volume.crop)}"
            raise CacheError(msg)
        arrays = {"image": StoredArray(volume.image, "image")}
        if volume.label is not None:
            arrays["label"] = StoredArray(volume.label, "label")
        return self._put("volumes", key, describe(volume.affine, volume.provenance), arrays)

    def has_volume(self, key: str) -> bool:
        """Whether a volume is stored, by its commit file alone."""
        return has_entry(self._layout, "volumes", key)

    def get_latent(self, key: str) -> Latent | None:
        """A stored latent, or `None`."""
        return self._get("latents", key, read_latent)

    def has_latent(self, key: str) -> bool:
        """Whether a latent is stored, by its commit file alone."""
        return has_entry(self._layout, "latents", key)

    def put_latent(self, key: str, latent: Latent) -> bool:
        """Store a latent; false if it is there already or does not fit.

        Raises:
            CacheError: as `put_volume`.
        """
        arrays = {"tensor": StoredArray(latent.tensor, "whole")}
        if latent.label is not None:
            arrays["label"] = StoredArray(latent.label, "label")
        if latent.statistics is not None:
            arrays["statistics"] = StoredArray(latent.statistics, "whole")
        attributes = describe(latent.affine, latent.provenance)
        return self._put("latents", key, {**attributes, "spec": latent.spec.to_json()}, arrays)

    def get_blob(self, digest: str) -> Blob | None:
        """An uploaded array whose content has this digest, or `None`."""
        return self._get("blobs", digest, read_blob)

    def put_blob(self, blob: Blob) -> str:
        """Store an array of the caller under its digest, which is given back.

        Raises:
            CacheError: as `put_volume`, and if it does not fit.
        """
        digest = blob.digest()
        arrays = {"array": StoredArray(blob.array, "label")}
        attributes = {"affine": np.asarray(blob.affine, dtype=np.float64).tolist()}
        stored = self._put("blobs", digest, attributes, arrays)
        if not stored and not has_entry(self._layout, "blobs", digest):
            msg = (
                f"an array of {blob.array.nbytes} bytes does not fit into cache {self.path}, "
                f"which may hold {self._bound} bytes; raise `max_bytes`"
            )
            raise CacheError(msg)
        return digest

    def stats(self) -> eviction.CacheStats:
        """What is on disk now."""
        return eviction.summary(self._layout, self._bound, self._here().damaged)

    def reader(self) -> VolumeCache:
        """A read-only view that can be pickled, for `DataLoader` workers."""
        return VolumeCache(self.path, read_only=True)

    def close(self) -> None:
        """Forget opened entries; the cache stays usable."""
        self._here().opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_reader, (os.fspath(self.path),)

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else f"at most {self._bound} bytes"
        return f"VolumeCache({os.fspath(self.path)!r}, {mode})"

    @property
    def _bound(self) -> int | None:
        return None if self._publisher is None else self._publisher.bound

    def _here(self) -> _Local:
        if self._local.pid != os.getpid():
            # The parent's handles are kept but never touched: to free them could
            # wait for threads that the fork did not copy.
            self._local = _Local(abandoned=self._local)
        return self._local

    def _get(self, kind: Kind, key: str, build: Callable[[Entry], _Value]) -> _Value | None:
        # A second try, because an entry may be evicted and stored again under our eyes.
        for _ in range(2):
            entry = self._opened(kind, key)
            if entry is None:
                return None
            try:
                value = build(entry)
            except Damaged as error:
                _check_open_files(error)
                if entry.is_current():
                    self._set_aside(kind, key)
                    return None
                value = None
            # What was read while the entry went away may have holes: only this tells.
            if value is not None and entry.is_current():
                touch(entry.directory)
                return value
            self._here().forget(entry)
        return None

    def _opened(self, kind: Kind, key: str) -> Entry | None:
        directory = self._layout.entry(kind, key)
        here = self._here()
        entry = here.get(directory)
        if entry is not None and entry.is_current():
            return entry
        stamp = _stamp(directory)
        if stamp is None:
            return None
        try:
            entry = Entry(directory, kind, key)
        except (FileNotFoundError, Damaged) as error:
            _check_open_files(error)
            # Files also go missing because the entry was evicted under our eyes.
            if _stamp(directory) == stamp:
                self._set_aside(kind, key)
            return None
        here.keep(directory, entry)
        return entry

    def _set_aside(self, kind: Kind, key: str) -> None:
        """Count a damaged entry, and move it out of the way if this view may write."""
        directory = self._layout.entry(kind, key)
        here = self._here()
        here.damaged += 1
        with here.lock:
            here.opened.pop(directory, None)
        if self._publisher is not None:
            self._publisher.set_aside(kind, key)

    def _put(
        self,
        kind: Kind,
        key: str,
        attributes: Mapping[str, Any],
        arrays: Mapping[str, StoredArray],
    ) -> bool:
        if self._publisher is None:
            msg = f"cache {self.path} was opened read-only; open it with read_only=False to store"
            raise CacheError(msg)
        return self._publisher.put(kind, key, attributes, arrays)


@final
class _Local:
    """What one process knows of a cache: entries that it has opened, and damage met."""

    __slots__ = ("abandoned", "damaged", "lock", "opened", "pid")

    def __init__(self, abandoned: _Local | None = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.opened: OrderedDict[Path, Entry] = OrderedDict()
        self.damaged = 0
        self.abandoned = abandoned

    def get(self, directory: Path) -> Entry | None:
        with self.lock:
            entry = self.opened.get(directory)
            if entry is not None:
                self.opened.move_to_end(directory)
            return entry

    def keep(self, directory: Path, entry: Entry) -> None:
        with self.lock:
            self.opened[directory] = entry
            self.opened.move_to_end(directory)
            while len(self.opened) > KEPT_OPEN:
                self.opened.popitem(last=False)

    def forget(self, entry: Entry) -> None:
        with self.lock:
            if self.opened.get(entry.directory) is entry:
                del self.opened[entry.directory]


def _open_reader(path: str) -> VolumeCache:
    return VolumeCache(path, read_only=True)


def _stamp(directory: Path) -> tuple[int, int] | None:
    """What tells a directory from a later one of the same name; `None` if there is none."""
    try:
        facts = os.lstat(directory)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _check_open_files(error: Exception) -> None:
    cause = error.__cause__
    text = str(cause)
    few = isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
    if few or "os error 24" in text:
        msg = "too many files are open to read the cache; raise the limit with `ulimit -n`"
        raise CacheError(msg) from error
