"""Workshop: the queue, the memory and the one thread behind an engine."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Condition
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Protocol
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import CacheError
from ..errors import GenerationError
from ..errors import NvgenError
from ..errors import SourceError
from ..errors import SpecError
from ..source import SourceStats
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Generated
from ..volume import Latent
from ..volume import SyntheticVolume
from .flights import Flight
from .flights import FlightQueue
from .flights import Waiter
from .recent import Recent

if TYPE_CHECKING:
    from ..cache import VolumeCache

BLOB_BYTES = 256 << 20

_log = logging.getLogger(__name__)


class Maker(Protocol):
    """What an engine needs of a generator: `nvgen_aug.generators.base.Generator` has it.

    Serving names what it needs instead of importing it, so that no client of a server,
    and no server before its start, loads a model's code.
    """

    @property
    def card(self) -> VariantCard: ...
    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume: ...
    def generate(self, spec: VolumeSpec, mask: Blob | None = None) -> Generated: ...
    def close(self) -> None: ...


@final
class Workshop:
    """Everything that the callers of an engine and its thread share.

    The lock is held for bookkeeping only, never while a volume is made, read or written.
    """

    __slots__ = (
        "_ahead",
        "_blobs",
        "_cache",
        "_card",
        "_is_closed",
        "_lock",
        "_maker",
        "_queue",
        "_recent",
        "_room_ahead",
        "_stats",
    )

    def __init__(self, maker: Maker, cache: VolumeCache | None, memory_bytes: int) -> None:
        self._maker = maker
        self._card = maker.card
        self._cache = cache
        self._queue = FlightQueue()
        self._recent: Recent[SyntheticVolume] = Recent(memory_bytes)
        self._room_ahead = memory_bytes // 2
        self._ahead: set[str] = set()  # made ahead, and not yet asked for
        self._blobs: Recent[Blob] = Recent(BLOB_BYTES)
        self._stats = SourceStats()
        self._lock = Condition()
        self._is_closed = False

    def submit(
        self, spec: VolumeSpec, crop: Crop | CropRule | None, client: Hashable
    ) -> Future[SyntheticVolume]:
        """Answer from memory or the cache at once, else join or queue a flight."""
        key = self._card.volume_key(spec)
        waiter = Waiter(Future(), crop)
        with self._lock:
            self._check_open()
            if key in self._ahead:
                self._ahead.remove(key)
                self._lock.notify()  # there is room to make another one ahead
            volume = self._recent.get(key)
            is_under_way = volume is None and key in self._queue
        # Not under the lock, and not on the thread, which may be busy for a minute.
        if volume is None and not is_under_way and self._cache is not None:
            try:
                volume = self._cache.get_volume(key, crop, self._card.vocabulary)
            except NvgenError as error:
                self._count(failures=1)
                waiter.future.set_exception(error)
                return waiter.future
            except OSError as error:
                # Named here: to the server any other OSError is a client that went away.
                self._count(failures=1)
                msg = f"the cache cannot be read: {error}; check its disk, or name another folder"
                raise CacheError(msg) from error
        if volume is not None:
            self._count(hits=1)
            self._deliver(waiter, volume)
            return waiter.future
        with self._lock:
            self._check_open()
            if self._queue.add(key, spec, waiter, client):
                self._stats = replace(self._stats, joined=self._stats.joined + 1)
            self._lock.notify()
        return waiter.future

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Queue what is neither in memory nor in the cache, as far as there is room."""
        for spec in specs:
            key = self._card.volume_key(spec)
            if self._cache is not None and self._cache.has_volume(key):
                continue
            with self._lock:
                self._check_open()
                if key not in self._recent and not self._queue.add_ahead(key, spec):
                    return
                self._lock.notify()

    def keep(self, blob: Blob) -> str:
        """Keep a blob in memory, and in the cache if there is one."""
        digest = blob.digest()
        with self._lock:
            self._check_open()
            self._blobs.put(digest, blob, blob.array.nbytes)
        if self._cache is not None and not self._cache.read_only:
            try:
                self._cache.put_blob(blob)
            except (NvgenError, OSError) as error:
                self._warn_unsaved(error)
        return digest

    def stats(self) -> SourceStats:
        """The numbers until now."""
        with self._lock:
            return replace(self._stats, waiting=len(self._queue))

    def stop(self) -> None:
        """Fail what waits in the queue; the thread ends after the volume it works on."""
        with self._lock:
            self._is_closed = True
            left = self._queue.clear()
            self._lock.notify_all()
        for waiter in left:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(_closed())

    def work(self) -> None:
        """What the thread does until the workshop is closed."""
        while (flight := self._next()) is not None:
            self._fly(flight)
        self._maker.close()

    def _next(self) -> Flight | None:
        with self._lock:
            while not self._is_closed:
                # Without a cache, what is made too far ahead is dropped before it is asked for.
                has_room = self._recent.nbytes_of(self._ahead) < self._room_ahead
                flight = self._queue.pop(ahead=self._cache is not None or has_room)
                if flight is not None:
                    return flight
                self._lock.wait()
            return None

    def _fly(self, flight: Flight) -> None:
        volume: SyntheticVolume | None = None
        failure: BaseException | None = None
        try:
            volume = _read_only(self._obtain(flight))
        except NvgenError as error:
            failure = error
        except BaseException as error:  # even SystemExit: a dead thread would hang every caller
            msg = (
                f"`{self._card.name}` failed on volume {flight.key[:12]} (seed "
                f"{flight.spec.seed}): {type(error).__name__}: {error}"
            )
            failure = GenerationError(msg)
            failure.__cause__ = error
        with self._lock:
            waiters = self._queue.finish(flight)
            if volume is not None:
                self._recent.put(flight.key, volume, volume.nbytes)
                # With a cache there is always room, and clients may read there without asking.
                if not waiters and self._cache is None:
                    self._ahead.add(flight.key)
        if failure is not None and not waiters:
            self._count(failures=1)
            _log.warning("a volume could not be made ahead of need: %s", failure)
        for waiter in waiters:
            if volume is not None:
                self._deliver(waiter, volume)
            elif waiter.future.set_running_or_notify_cancel():
                self._count(failures=1)
                waiter.future.set_exception(failure)

    def _obtain(self, flight: Flight) -> SyntheticVolume:
        """The whole volume: from memory, the cache, its latent, or the generator."""
        spec = flight.spec
        with self._lock:
            volume = self._recent.get(flight.key)
        if volume is None and self._cache is not None:
            volume = self._cache.get_volume(flight.key)
        if volume is not None:
            self._count(hits=1)
            return volume
        latent_key = self._card.latent_key(spec)
        latent = self._cache.get_latent(latent_key) if self._cache is not None else None
        if latent is not None:
            volume = self._maker.decode(latent)
            self._count(decoded=1)
            self._save(flight.key, volume)
            return volume
        mask = self._mask(spec)
        began = perf_counter()
        made = self._maker.generate(spec, mask)
        self._count(generated=1, seconds_generating=perf_counter() - began)
        self._save(flight.key, made.volume, latent_key, made.latent)
        return made.volume

    def _mask(self, spec: VolumeSpec) -> Blob | None:
        if spec.mask is None:
            return None
        with self._lock:
            blob = self._blobs.get(spec.mask)
        if blob is None and self._cache is not None:
            blob = self._cache.get_blob(spec.mask)
        if blob is None:
            msg = f"no mask {spec.mask[:12]}… is known here; hand it over again with `source.put`"
            raise SpecError(msg)
        return blob

    def _save(
        self, key: str, volume: SyntheticVolume, latent_key: str = "", latent: Latent | None = None
    ) -> None:
        if self._cache is None or self._cache.read_only:
            return
        try:
            if latent is not None:
                self._cache.put_latent(latent_key, latent)
            self._cache.put_volume(key, volume)
        except (NvgenError, OSError) as error:
            # A full disk costs time, not samples.
            self._warn_unsaved(error)

    def _deliver(self, waiter: Waiter, volume: SyntheticVolume) -> None:
        if not waiter.future.set_running_or_notify_cancel():
            return
        crop = waiter.crop
        try:
            # A volume read from the cache for this waiter is cropped already.
            if crop is not None and volume.crop is None:
                if isinstance(crop, CropRule):
                    crop = crop.resolve(volume.shape, volume.label, self._card.vocabulary)
                volume = volume.cropped(crop)
        except BaseException as error:
            self._count(failures=1)
            waiter.future.set_exception(error)
            return
        self._count(fetched=1)
        waiter.future.set_result(volume)

    def _count(self, *, seconds_generating: float = 0.0, **numbers: int) -> None:
        with self._lock:
            changed = {name: getattr(self._stats, name) + n for name, n in numbers.items()}
            seconds = self._stats.seconds_generating + seconds_generating
            self._stats = replace(self._stats, seconds_generating=seconds, **changed)

    def _warn_unsaved(self, error: Exception) -> None:
        if self._stats.unsaved == 0:
            _log.warning("the cache cannot keep what is made, training goes on: %s", error)
        self._count(unsaved=1)

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()


def _closed() -> SourceError:
    msg = "this engine is closed; open another with `open_source` or `serve`"
    return SourceError(msg)


def _read_only(volume: SyntheticVolume) -> SyntheticVolume:
    """The same voxels in views that callers who share them cannot write to."""
    image = volume.image.view()
    image.flags.writeable = False
    label = None if volume.label is None else volume.label.view()
    if label is not None:
        label.flags.writeable = False
    return replace(volume, image=image, label=label)
