"""Making: how one volume comes about: from the cache, its latent, or the generator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Protocol
from typing import TypeVar
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import GenerationError
from ..errors import NvgenError
from ..errors import OutOfMemory
from ..errors import QualityError
from ..errors import SpecError
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Generated
from ..volume import Latent
from ..volume import SyntheticVolume
from .crop_budget import CropBudget
from .mishaps import explained
from .recent import Recent
from .tally import Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..cache import VolumeCache

T = TypeVar("T")

BLOB_BYTES = 256 << 20

_log = logging.getLogger(__name__)


class Maker(Protocol):
    """What an engine needs of a generator: `nvgen_aug.generators.base.Generator` has it.

    Serving names what it needs instead of importing it, so that no client of a server,
    and no server before its start, loads a model's code.
    """

    on_progress: Callable[[], None]
    new_image: Callable[[tuple[int, ...]], NDArray[np.int16]]

    @property
    def card(self) -> VariantCard: ...
    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume: ...
    def crop_share(self, latent: Latent, crop: Crop) -> float: ...
    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated: ...
    def prove(self) -> None: ...
    def use_less_memory(self) -> bool: ...
    def pin(self, memory: NDArray[np.uint8]) -> None: ...
    def close(self) -> None: ...


class Masks(Protocol):
    """What an engine needs of a bank of masks: that of `nvgen_aug.generators` has it."""

    def card(self, card: VariantCard) -> VariantCard: ...
    def bound(self, spec: VolumeSpec, card: VariantCard) -> VolumeSpec: ...
    def blob(self, digest: str) -> Blob | None: ...


@final
class Making:
    """The generator, cache, masks and images of an engine; one thread makes volumes here.

    Args:
        maker: The generator.
        cache: Where volumes are kept, if anywhere.
        tally: What is counted on the way.
        masks: A bank, for masks that nobody has handed over.
    """

    __slots__ = ("_blobs", "_budget", "_cache", "_card", "_lock", "_maker", "_masks", "_tally")

    def __init__(
        self,
        maker: Maker,
        cache: VolumeCache | None,
        tally: Tally,
        masks: Masks | None = None,
    ) -> None:
        self._masks = masks
        self._maker = maker
        self._budget = CropBudget(maker)
        self._card = maker.card
        self._cache = cache
        self._tally = tally
        self._blobs: Recent[Blob] = Recent(BLOB_BYTES)
        self._lock = Lock()
        maker.on_progress = tally.progress

    def volume(self, key: str, spec: VolumeSpec) -> SyntheticVolume:
        """The whole volume of a resolved spec: from the cache, its latent, or the generator.

        Raises:
            NvgenError: whatever kept it from being made, in the class that says what to do.
        """
        if self._cache is not None:
            volume = self._cache.get_volume(key)
            if volume is not None:
                self._tally.count(hits=1)
                return volume
        what = f"`{self._card.name}` failed on volume {key[:12]} (seed {spec.seed})"
        latent_key = self._card.latent_key(spec)
        latent = self._cache.get_latent(latent_key) if self._cache is not None else None
        if latent is not None:
            kept = latent
            volume = self._job(what, lambda: self._maker.decode(kept))
            self._tally.count(decoded=1)
            self._save(key, volume)
            return volume
        mask, image = self._blob("mask", spec.mask), self._blob("image", spec.image)
        began = perf_counter()
        made = self._job(what, lambda: self._maker.generate(spec, mask, image))
        self._tally.rejected(made.rejected)
        self._tally.count(generated=1, seconds_generating=perf_counter() - began)
        self._save(key, made.volume, latent_key, made.latent)
        return made.volume

    def stored_latent(self, key: str, spec: VolumeSpec) -> Latent | None:
        """The latent with statistics of a volume that is not stored itself, if there is one."""
        if self._cache is None or self._cache.has_volume(key):
            return None
        latent = self._cache.get_latent(self._card.latent_key(spec))
        return None if latent is None or latent.statistics is None else latent

    def prefers_crops(self, latent: Latent) -> bool:
        """Whether decoding its volume ahead of need would be a waste."""
        return self._budget.prefers_crops(latent)

    def crop(
        self, key: str, latent: Latent, asked: Crop | CropRule | None
    ) -> SyntheticVolume | None:
        """The part that is asked for, decoded alone; `None` if the volume is to be decoded whole.

        Raises:
            NvgenError: whatever kept it from being decoded.
        """
        crop = self._budget.pay(key, latent, asked)
        if crop is None:
            return None
        what = f"`{self._card.name}` failed on a crop of volume {key[:12]}"
        volume = self._job(what, lambda: self._maker.decode(latent, crop))
        self._tally.count(crops=1)
        return volume

    def canary(self) -> None:
        """Have the generator show that it can make anything.

        Raises:
            NvgenError: if it cannot.
        """
        what = f"`{self._card.name}` failed on the smallest volume that it can make"
        self._job(what, self._maker.prove, is_volume=False)

    def keep(self, blob: Blob) -> str:
        """Keep a blob in memory, and in the cache if there is one."""
        digest = blob.digest()
        with self._lock:
            self._blobs.put(digest, blob, blob.array.nbytes)
        if self._cache is not None and not self._cache.read_only:
            try:
                self._cache.put_blob(blob)
            except (NvgenError, OSError) as error:
                self._warn_unsaved(error)
        return digest

    def pin(self, memory: NDArray[np.uint8]) -> None:
        """Tell the generator of memory that it will write into."""
        self._maker.pin(memory)

    def close(self) -> None:
        """Let go of the generator."""
        self._maker.close()

    def _job(self, what: str, work: Callable[[], T], *, is_volume: bool = True) -> T:
        """Run the generator, with ever less memory if it runs out of it."""
        while True:
            self._tally.begin()
            try:
                made = work()
            except BaseException as error:  # even SystemExit: a dead thread would hang every caller
                known = explained(error, what)
                if isinstance(known, QualityError):
                    self._tally.rejected(known.rejected)
                # A request that cannot be made says nothing about the generator.
                is_ill = isinstance(known, GenerationError)
                self._tally.end(str(known) if is_ill else "")
                if isinstance(known, OutOfMemory) and self._maker.use_less_memory():
                    self._tally.step_down()
                    _log.warning("%s; once more with less memory at a time", known)
                    continue
                if known is error:
                    raise
                raise known from error
            self._tally.end(is_volume=is_volume)
            return made

    def _blob(self, what: str, digest: str | None) -> Blob | None:
        if digest is None:
            return None
        with self._lock:
            blob = self._blobs.get(digest)
        if blob is None and self._cache is not None:
            blob = self._cache.get_blob(digest)
        if blob is None and self._masks is not None:
            blob = self._masks.blob(digest)
            if blob is not None:
                self.keep(blob)
        if blob is None:
            msg = f"no {what} {digest[:12]}… is known here; hand it over again with `source.put`"
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

    def _warn_unsaved(self, error: Exception) -> None:
        if self._tally.stats.unsaved == 0:
            _log.warning("the cache cannot keep what is made, training goes on: %s", error)
        self._tally.count(unsaved=1)
