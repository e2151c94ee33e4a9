"""VolumeCache: latents, decoded volumes and uploaded arrays on disk, one Zarr group per key."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from typing import Any
from typing import Self
from typing import TypeVar
from typing import final

import numpy as np

from ..crop import Crop
from ..crop import CropRule
from ..crop import crop_text
from ..errors import CacheError
from ..volume import Blob
from ..volume import Latent
from ..volume import SyntheticVolume
from . import eviction
from . import pins
from .arrays import StoredArray
from .contents import describe
from .contents import read_blob
from .contents import read_latent
from .contents import read_volume
from .entry import Entry
from .layout import Kind
from .layout import Layout
from .layout import open_layout
from .lock import locked
from .pins import Pinned
from .publisher import Publisher
from .tier import Tier

if TYPE_CHECKING:
    from .object_store import ObjectStore

_Value = TypeVar("_Value")


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
        shared: Other cache directories, which are read where this one has nothing and are
            never written: what a group has made once, for everybody. What somebody else
            wrote is compared with its SHA-256 digests before it is used.
        remote: A bucket, such as `"s3://bucket/prefix"`, that many machines share: what is
            stored here goes there too, and what is not here is fetched from there. Only
            who may write does so: a worker asks its server. Needs the extra `cloud`.
        remote_options: Of the bucket, such as `endpoint` and `region`; JSON values. Secrets
            come from the environment, as `AWS_ACCESS_KEY_ID` and its like.

    Raises:
        CacheError: if the directory cannot be used, or was written by a later version.
    """

    __slots__ = ("_layout", "_publisher", "_remote", "_tiers")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | str | None = None,
        read_only: bool = False,
        shared: Sequence[str | os.PathLike[str]] = (),
        remote: str | None = None,
        remote_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._layout: Layout = open_layout(path, read_only=read_only)
        self._publisher: Publisher | None = None
        self._remote: ObjectStore | None = None
        if not read_only:
            bound = eviction.byte_bound(max_bytes, self._layout)
            self._publisher = Publisher(self._layout, bound)
            self._publisher.sweep()
            if remote is not None:
                self._remote = _object_store(remote, remote_options or {})
        own = Tier(self._layout, self._publisher, thorough=not read_only)
        others = [open_layout(other, read_only=True) for other in _as_paths(shared)]
        self._tiers = (own, *(Tier(layout, None, thorough=True) for layout in others))

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._layout.root

    @property
    def shared(self) -> tuple[Path, ...]:
        """The directories that are read where this one has nothing, absolute."""
        return tuple(tier.layout.root for tier in self._tiers[1:])

    @property
    def remote(self) -> tuple[str, Mapping[str, Any]] | None:
        """URL and options of the bucket behind, if there is one."""
        return None if self._remote is None else (self._remote.url, self._remote.options)

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
        return self._has("volumes", key)

    def get_latent(self, key: str) -> Latent | None:
        """A stored latent, or `None`."""
        return self._get("latents", key, read_latent)

    def has_latent(self, key: str) -> bool:
        """Whether a latent is stored, by its commit file alone."""
        return self._has("latents", key)

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
        if not stored and not self._has("blobs", digest):
            msg = (
                f"an array of {blob.array.nbytes} bytes does not fit into cache {self.path}, "
                f"which may hold {self._bound} bytes; raise `max_bytes`"
            )
            raise CacheError(msg)
        return digest

    def pin(self, name: str, volumes: Iterable[str] = (), latents: Iterable[str] = ()) -> None:
        """Keep entries from being evicted, until `unpin(name)`.

        Args:
            name: Of whoever needs them, such as a run; letters, digits, `.`, `-` and `_`.
            volumes: Keys of volumes; they need not be there yet.
            latents: Keys of latents.

        Raises:
            CacheError: if this cache is read-only, or a name or key is none.
        """
        wanted: list[Pinned] = [("volumes", key) for key in volumes]
        wanted += [("latents", key) for key in latents]
        with self._locked("pin"):
            pins.pin(self._layout, name, wanted)

    def unpin(self, name: str) -> bool:
        """Take back what `pin` said; false if nothing was pinned under this name.

        Raises:
            CacheError: if this cache is read-only, or the name is none.
        """
        with self._locked("unpin"):
            return pins.unpin(self._layout, name)

    def stats(self) -> eviction.CacheStats:
        """What is on disk now."""
        damaged = sum(tier.damaged for tier in self._tiers)
        return eviction.summary(self._layout, self._bound, damaged)

    def reader(self) -> VolumeCache:
        """A read-only view that can be pickled, for `DataLoader` workers."""
        return VolumeCache(self.path, read_only=True, shared=self.shared)

    def close(self) -> None:
        """Forget opened entries; the cache stays usable."""
        for tier in self._tiers:
            tier.close()

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
        return _open_reader, (os.fspath(self.path), tuple(map(os.fspath, self.shared)))

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else f"at most {self._bound} bytes"
        return f"VolumeCache({os.fspath(self.path)!r}, {mode})"

    @property
    def _bound(self) -> int | None:
        return None if self._publisher is None else self._publisher.bound

    def _get(self, kind: Kind, key: str, build: Callable[[Entry], _Value]) -> _Value | None:
        for tier in self._tiers:
            value = tier.get(kind, key, build)
            if value is not None:
                return value
        if self._publisher is None or self._remote is None:
            return None
        is_here = self._publisher.adopt(kind, key, self._remote)
        return self._tiers[0].get(kind, key, build) if is_here else None

    def _has(self, kind: Kind, key: str) -> bool:
        return any(tier.has(kind, key) for tier in self._tiers)

    @contextmanager
    def _locked(self, verb: str) -> Iterator[None]:
        if self._publisher is None:
            msg = f"cache {self.path} was opened read-only; open it with read_only=False to {verb}"
            raise CacheError(msg)
        with locked(self._layout):
            yield

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
        if any(tier.has(kind, key) for tier in self._tiers[1:]):
            return False
        is_first = self._publisher.put(kind, key, attributes, arrays)
        if self._remote is not None:
            self._publisher.send(kind, key, self._remote)
        return is_first


def _open_reader(path: str, shared: Sequence[str]) -> VolumeCache:
    return VolumeCache(path, read_only=True, shared=shared)


def _object_store(url: str, options: Mapping[str, Any]) -> ObjectStore:
    try:
        # By name, because it needs an extra, and most caches are a folder alone.
        store = import_module(".object_store", __package__).ObjectStore
    except ImportError as error:
        msg = f'{url} is reached through obstore, which is not here; pip install "nvgen-aug[cloud]"'
        raise CacheError(msg) from error
    opened: ObjectStore = store(url, options)
    return opened


def _as_paths(shared: Sequence[str | os.PathLike[str]]) -> Sequence[str | os.PathLike[str]]:
    # A text is a sequence, too: of letters.
    return (shared,) if isinstance(shared, (str, os.PathLike)) else shared
