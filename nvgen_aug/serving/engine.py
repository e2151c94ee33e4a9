"""Engine: a volume source in this process, with one generator and one thread that works it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from threading import current_thread
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from typing import final

import numpy as np

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import DataError
from ..errors import DeviceLost
from ..errors import WrongProcess
from ..source import SourceStats
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import SyntheticVolume
from .making import Maker
from .making import Masks
from .servable import Servable
from .shelf import Shelf
from .tally import Health
from .workshop import Workshop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import VolumeCache

MEMORY_BYTES = 256 << 20


@final
class Engine(Servable):
    """A generator behind the seam, made for many callers at once.

    Each distinct spec is made once however many ask for it. What somebody waits for
    goes before what is made ahead, and clients take turns. A crop of a volume that was
    made lately costs no generation, with a cache or without.

    It belongs to the process that made it: in another one every call raises `WrongProcess`.

    Args:
        generator: A loaded variant; the engine closes it.
        cache: Where latents and volumes are kept; the caller closes it.
        masks: A bank, of which a spec without a mask gets one.
        memory_bytes: Bytes of whole volumes to keep at hand in memory.

    Raises:
        SpecError: The generator cannot follow the masks of the bank.
    """

    __slots__ = ("__weakref__", "_card", "_end", "_masks", "_pid", "_shop")

    def __init__(
        self,
        generator: Maker,
        cache: VolumeCache | None = None,
        *,
        masks: Masks | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._card = generator.card if masks is None else masks.card(generator.card)
        self._masks = masks
        self._pid = os.getpid()
        self._shop = Workshop(generator, cache, memory_bytes, masks)
        # A daemon, because one that is not would be waited for before `_end` can stop it.
        thread = Thread(target=self._shop.work, name="nvgen-engine", daemon=True)
        thread.start()
        # The thread knows the workshop only: an engine that nobody holds any more ends it.
        self._end = weakref.finalize(self, _end, self._pid, self._shop, thread)

    @property
    def card(self) -> VariantCard:
        """What is known of the variant."""
        return self._card

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults, and with a mask of the bank if there is one.

        Raises:
            SpecError: if the variant cannot make it, or no mask fits.
        """
        if self._masks is not None:
            spec = self._masks.bound(spec, self._card)
        return self._card.resolve(spec)

    def submit(
        self, spec: VolumeSpec, crop: Crop | CropRule | None = None, *, client: Hashable = None
    ) -> Future[SyntheticVolume]:
        """Ask for a volume without waiting for it.

        Args:
            spec: What is wanted; it is resolved first.
            crop: A box, a rule that chooses one, or `None` for the whole volume.
            client: Who asks; each client gets its turn.

        Returns:
            The answer to come. Callers of one spec share its arrays, which are read-only;
            cancelling it takes back a request that has not begun.

        Raises:
            SpecError: if the variant cannot make it, or the crop leaves the volume.
            WrongProcess: in a process that did not make this engine.
        """
        self._check_process()
        return self._shop.submit(self.asked(spec, crop), crop, client)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it, in arrays of the caller's own."""
        return _own(self.submit(spec, crop).result())

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Keep an array of the caller, `[X, Y, Z]`, for specs that name its digest."""
        self._check_process()
        return self._shop.keep(checked_blob(array, affine))

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Make these when nobody waits for anything else; the farthest are dropped if too many."""
        self._check_process()
        self._shop.prefetch([self.resolve(spec) for spec in specs])

    def stats(self) -> SourceStats:
        """What the engine has done so far."""
        self._check_process()
        return self._shop.stats()

    def health(self) -> Health:
        """How the generator does now."""
        return self._shop.health()

    def prove(self) -> Future[None]:
        """Make the smallest volume there is, next and for nobody, to see whether it can be done.

        Returns:
            Done with nothing, or with the error.
        """
        self._check_process()
        return self._shop.prove()

    def when_device_lost(self, act: Callable[[DeviceLost], None]) -> None:
        """Have this called, in the engine's thread, when the device cannot be used again."""
        self._shop.on_device_lost = act

    def use_shelf(self, shelf: Shelf | None) -> None:
        """Make volumes where a server's clients can see them; `None` takes that back."""
        self._shop.use_shelf(shelf)

    def close(self, timeout: float | None = None) -> None:
        """End the thread after the volume it works on; requests in the queue fail.

        Args:
            timeout: Seconds to wait for that volume; `None` waits for it.
        """
        if (end := self._end.detach()) is not None:
            _end(*end[2], timeout=timeout)

    def __copy__(self) -> Engine:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return self  # MONAI copies transforms, and what hangs on them, for each of its threads

    def __reduce__(self) -> NoReturn:
        msg = (
            "an engine cannot leave its process, so it cannot be sent to a DataLoader worker; "
            "`serve()` it before the loader, or use num_workers=0"
        )
        raise WrongProcess(msg)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"this engine was made in process {self._pid} and used in {os.getpid()}; "
                "`serve()` it before the loader, or use num_workers=0"
            )
            raise WrongProcess(msg)


def checked_blob(array: NDArray[np.generic], affine: NDArray[np.float64]) -> Blob:
    """The array of a caller as a blob, or `DataError` naming what is wrong with it."""
    array = np.ascontiguousarray(array)
    affine = np.asarray(affine, dtype=np.float64)
    if array.ndim != 3 or array.dtype.kind not in "biuf" or array.size == 0:
        msg = f"an array to put must be numbers [X, Y, Z], got {array.dtype} {list(array.shape)}"
        raise DataError(msg)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        msg = f"the affine must be finite numbers [4, 4], got {affine.tolist()}"
        raise DataError(msg)
    return Blob(array, affine)


def _own(volume: SyntheticVolume) -> SyntheticVolume:
    label = None if volume.label is None else volume.label.copy()
    return replace(volume, image=volume.image.copy(), label=label, affine=volume.affine.copy())


def _end(pid: int, shop: Workshop, thread: Thread, *, timeout: float | None = None) -> None:
    if os.getpid() != pid:  # a forked child has the object but not the thread
        return
    shop.stop()
    # The thread cannot wait for itself where it happens to be the one that collects the garbage.
    if thread is not current_thread():
        thread.join(timeout)
