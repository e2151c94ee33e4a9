"""Workshop: the queue, the memory and the one thread behind an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from ..crop import Crop
from ..crop import CropRule
from ..errors import CacheError
from ..errors import DeviceLost
from ..errors import NvgenError
from ..errors import SourceError
from ..source import SourceStats
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import SyntheticVolume
from .flights import Flight
from .flights import FlightQueue
from .flights import Waiter
from .making import Maker
from .making import Making
from .making import Masks
from .mishaps import explained
from .recent import Recent
from .shelf import Shelf
from .tally import Health
from .tally import Tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import VolumeCache

_log = logging.getLogger(__name__)


class EngineClosed(SourceError):
    """The engine was closed before it could answer."""


@final
class Workshop:
    """Everything that the callers of an engine and its thread share.

    The lock is held for bookkeeping only, never while a volume is made, read or written.
    """

    __slots__ = (
        "_ahead",
        "_cache",
        "_canary",
        "_card",
        "_is_closed",
        "_lock",
        "_making",
        "_queue",
        "_recent",
        "_room_ahead",
        "_shelf",
        "_tally",
        "on_device_lost",
    )

    def __init__(
        self,
        maker: Maker,
        cache: VolumeCache | None,
        memory_bytes: int,
        masks: Masks | None = None,
    ) -> None:
        self._card = maker.card
        self._cache = cache
        self._tally = Tally()
        self._making = Making(maker, cache, self._tally, masks)
        self._shelf: Shelf | None = None
        maker.new_image = self._new_image
        self._canary: Future[None] | None = None
        # A process that is supervised ends here, before anybody gets an answer, and is replaced.
        self.on_device_lost: Callable[[DeviceLost], None] = lambda error: None
        self._queue = FlightQueue()
        self._recent: Recent[SyntheticVolume] = Recent(memory_bytes)
        self._room_ahead = memory_bytes // 2
        self._ahead: set[str] = set()  # made ahead, and not yet asked for
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
                self._tally.count(failures=1)
                waiter.future.set_exception(error)
                return waiter.future
            except OSError as error:
                # Named here: to the server any other OSError is a client that went away.
                self._tally.count(failures=1)
                msg = f"the cache cannot be read: {error}; check its disk, or name another folder"
                raise CacheError(msg) from error
        if volume is not None:
            self._tally.count(hits=1)
            self._deliver(waiter, volume)
            return waiter.future
        with self._lock:
            self._check_open()
            if self._queue.add(key, spec, waiter, client):
                self._tally.count(joined=1)
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

    def use_shelf(self, shelf: Shelf | None) -> None:
        """Make volumes there from now on, as far as there is room."""
        if shelf is not None:
            self._making.pin(shelf.memory)
        self._shelf = shelf

    def stats(self) -> SourceStats:
        """The numbers until now."""
        with self._lock:
            return replace(self._tally.stats, waiting=len(self._queue))

    def keep(self, blob: Blob) -> str:
        """Keep a blob for specs that name its digest."""
        with self._lock:
            self._check_open()
        return self._making.keep(blob)

    def health(self) -> Health:
        """How the generator does now."""
        return self._tally.health()

    def prove(self) -> Future[None]:
        """Make a canary next, before all that waits; those who ask meanwhile share it."""
        with self._lock:
            self._check_open()
            if self._canary is None:
                self._canary = Future()
                self._lock.notify()
            return self._canary

    def stop(self) -> None:
        """Fail what waits in the queue; the thread ends after the volume it works on."""
        with self._lock:
            self._is_closed = True
            left = [waiter.future for waiter in self._queue.clear()]
            canary, self._canary = self._canary, None
            self._lock.notify_all()
        futures: list[Future[Any]] = [*left, *([] if canary is None else [canary])]
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(_closed())

    def work(self) -> None:
        """What the thread does until the workshop is closed."""
        while (job := self._next()) is not None:
            if isinstance(job, Flight):
                self._fly(job)
            else:
                self._prove(job)
        self._making.close()

    def _next(self) -> Flight | Future[None] | None:
        with self._lock:
            while not self._is_closed:
                if self._canary is not None:
                    canary, self._canary = self._canary, None
                    return canary
                # Without a cache, what is made too far ahead is dropped before it is asked for.
                has_room = self._recent.nbytes_of(self._ahead) < self._room_ahead
                flight = self._queue.pop(ahead=self._cache is not None or has_room)
                if flight is not None:
                    return flight
                self._lock.wait()
            return None

    def _prove(self, canary: Future[None]) -> None:
        if not canary.set_running_or_notify_cancel():
            return
        try:
            self._making.canary()
        except NvgenError as error:
            self._check_device(error)
            canary.set_exception(error)
        else:
            canary.set_result(None)

    def _fly(self, flight: Flight) -> None:
        volume: SyntheticVolume | None = None
        failure: Exception | None = None
        try:
            with self._lock:
                volume = self._recent.get(flight.key)
            if volume is not None:
                self._tally.count(hits=1)
            elif self._serve_crops(flight):
                return
            else:
                volume = self._making.volume(flight.key, flight.spec)
                if (shelf := self._shelf) is not None:
                    volume = shelf.finish(volume)
            volume = _read_only(volume)
        except Exception as error:
            failure = explained(error, f"volume {flight.key[:12]} (seed {flight.spec.seed})")
            failure.__cause__ = error if failure is not error else error.__cause__
            self._check_device(failure)
        with self._lock:
            waiters = self._queue.finish(flight)
            if volume is not None:
                self._recent.put(flight.key, volume, volume.nbytes)
                # With a cache there is always room, and clients may read there without asking.
                if not waiters and self._cache is None:
                    self._ahead.add(flight.key)
        if failure is not None and not waiters:
            self._tally.count(failures=1)
            _log.warning("a volume could not be made ahead of need: %s", failure)
        for waiter in waiters:
            if volume is not None:
                self._deliver(waiter, volume)
            elif waiter.future.set_running_or_notify_cancel():
                self._tally.count(failures=1)
                waiter.future.set_exception(failure)

    def _new_image(self, shape: tuple[int, ...]) -> NDArray[np.int16]:
        """Memory for a whole image: where clients will see it, or else anywhere."""
        shelf = self._shelf
        if shelf is None:
            return np.empty(shape, np.int16)
        image = shelf.image(shape)
        if image is None and self._clear(shelf):
            image = shelf.image(shape)
        return np.empty(shape, np.int16) if image is None else image

    def _clear(self, shelf: Shelf) -> bool:
        """Move the volume off the shelf that was used longest ago; whether there was one.

        To copy it takes milliseconds, to make it again seconds.
        """
        with self._lock:
            kept = self._recent.oldest_first()
        for key, volume in kept:
            if shelf.slot_of(volume) is not None:
                label = None if volume.label is None else volume.label.copy()
                moved = _read_only(replace(volume, image=volume.image.copy(), label=label))
                with self._lock:
                    self._recent.exchange(key, volume, moved)
                return True
        return False

    def _serve_crops(self, flight: Flight) -> bool:
        """Decode what each waiter wants and no more; whether that was enough, and the flight over.

        A flight that nobody waits for is over at once if crops are what is asked for.
        """
        latent = self._making.stored_latent(flight.key, flight.spec)
        if latent is None:
            return False
        is_over = not flight.waiters and self._making.prefers_crops(latent)
        while True:
            with self._lock:
                if not flight.waiters:
                    if is_over:
                        self._queue.finish(flight)
                    return is_over
                waiter = flight.waiters[0]
            volume = self._making.crop(flight.key, latent, waiter.crop)
            if volume is None:
                return False
            with self._lock:
                flight.waiters.remove(waiter)
            is_over = True
            self._deliver(waiter, volume)

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
            self._tally.count(failures=1)
            waiter.future.set_exception(error)
            return
        self._tally.count(fetched=1)
        self._tally.waited(monotonic() - waiter.since)
        waiter.future.set_result(volume)

    def _check_device(self, error: Exception) -> None:
        if isinstance(error, DeviceLost):
            self.on_device_lost(error)

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()


def _closed() -> EngineClosed:
    msg = "the generator was closed; `open_source` or `serve` another"
    return EngineClosed(msg)


def _read_only(volume: SyntheticVolume) -> SyntheticVolume:
    """The same voxels in views that callers who share them cannot write to."""
    image = volume.image.view()
    image.flags.writeable = False
    label = None if volume.label is None else volume.label.view()
    if label is not None:
        label.flags.writeable = False
    return replace(volume, image=image, label=label)
