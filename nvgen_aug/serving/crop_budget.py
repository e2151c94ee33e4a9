"""CropBudget: whether crops are decoded alone from a latent, or their volume whole."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import LabelError
from ..errors import SpecError
from ..volume import Latent

# Volumes whose crops are remembered; a forgotten one begins anew.
_REMEMBERED = 4096


class Cropper(Protocol):
    """What is asked of a generator."""

    @property
    def card(self) -> VariantCard: ...
    def crop_share(self, latent: Latent, crop: Crop) -> float: ...


@final
class CropBudget:
    """Crops of a volume are decoded alone until that would cost more than the volume.

    A volume decoded whole is stored, and later crops of it are free. So the break-even is where
    the work of its crops reaches that of the whole, and whatever is asked, no more than twice the
    least work is done (as in the ski-rental problem). Not safe between threads.

    Args:
        generator: Knows what a crop costs.
    """

    __slots__ = ("_asked", "_generator", "_spent")

    def __init__(self, generator: Cropper) -> None:
        self._generator = generator
        self._spent: OrderedDict[str, float] = OrderedDict()
        self._asked: Crop | CropRule | None = None

    def pay(self, key: str, latent: Latent, asked: Crop | CropRule | None) -> Crop | None:
        """The crop to decode alone, counted as done; `None` if the volume is to be decoded whole.

        Args:
            key: Of the volume.
            latent: From the cache.
            asked: The part that somebody waits for.
        """
        self._asked = asked
        if asked is None or latent.statistics is None:
            return None
        try:
            crop = self._resolved(latent, asked)
            share = self._generator.crop_share(latent, crop)
        except (SpecError, LabelError):
            return None  # who asked will hear it when the crop is cut from the whole
        spent = self._spent.pop(key, 0.0) + share
        if spent > 1.0:
            return None
        self._spent[key] = spent
        while len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)
        return crop

    def prefers_crops(self, latent: Latent) -> bool:
        """Whether decoding a volume ahead of need is a waste, going by what was asked last."""
        if self._asked is None or latent.statistics is None:
            return False
        size, whole = self._asked.size, latent.spec.size
        assert whole is not None
        if any(n > m for n, m in zip(size, whole, strict=True)):
            return False
        x, y, z = ((m - n) // 2 for n, m in zip(size, whole, strict=True))
        # By less than half, the volume is the better bet: others may ask for it, too.
        return self._generator.crop_share(latent, Crop((x, y, z), size)) <= 0.5

    def _resolved(self, latent: Latent, asked: Crop | CropRule) -> Crop:
        assert latent.spec.size is not None
        if isinstance(asked, Crop):
            asked.check_inside(latent.spec.size)
            return asked
        return asked.resolve(latent.spec.size, latent.label, self._generator.card.vocabulary)
