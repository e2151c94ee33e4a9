"""Servable: what a server puts before its clients: an engine here, or many in a cluster."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Hashable
from concurrent.futures import Future

from ..crop import Crop
from ..crop import CropRule
from ..errors import DeviceLost
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from .shelf import Shelf
from .tally import Health


class Servable(VolumeSource):
    """A volume source that many threads ask at once, without waiting."""

    __slots__ = ()

    @abstractmethod
    def submit(
        self, spec: VolumeSpec, crop: Crop | CropRule | None = None, *, client: Hashable = None
    ) -> Future[SyntheticVolume]:
        """Ask for a volume without waiting for it.

        Args:
            spec: What is wanted; it is resolved first.
            crop: A box, a rule that chooses one, or `None` for the whole volume.
            client: Who asks.

        Returns:
            The answer to come, in arrays that others may share.
        """

    def asked(self, spec: VolumeSpec, crop: Crop | CropRule | None) -> VolumeSpec:
        """The spec resolved; what is wrong with it or the crop is said before anything is made.

        Raises:
            SpecError: if the variant cannot make it, or the crop leaves the volume.
        """
        resolved = self.resolve(spec)
        assert resolved.size is not None
        if isinstance(crop, Crop):
            crop.check_inside(resolved.size)
        elif crop is not None:
            crop.check_names(self.card.vocabulary)
            Crop((0, 0, 0), crop.size).check_inside(resolved.size)
        return resolved

    @abstractmethod
    def health(self) -> Health:
        """How what generates does now."""

    @abstractmethod
    def prove(self) -> Future[None]:
        """Show that it can generate; done with nothing, or with the error."""

    @abstractmethod
    def when_device_lost(self, act: Callable[[DeviceLost], None]) -> None:
        """Have this called when the device cannot be used again by this process."""

    def use_shelf(self, shelf: Shelf | None) -> None:
        """Make volumes where a server's clients can see them, if they are made in this process.

        Args:
            shelf: That place; `None` takes it back.
        """

    @abstractmethod
    def close(self, timeout: float | None = None) -> None:
        """End after the volume in work.

        Args:
            timeout: Seconds to wait for that volume; `None` waits for it.
        """
