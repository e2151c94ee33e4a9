"""RandSyntheticVolume and RandSyntheticVolumed: replace a sample by a synthetic one, by chance."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data import get_track_meta
from monai.transforms import InvertibleTransform
from monai.transforms import MapTransform
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends
from monai.utils import convert_to_tensor

from ..data.schema import file_name
from ..data.synthetic import SyntheticDataset
from ..errors import DataError
from ..errors import GenerationError
from ..errors import RatioError
from ..provenance import Provenance

PARTS = ("image", "label")
MAX_SEED = 2**32


class RandSyntheticVolume(RandomizableTransform):
    """A coin toss, not a share: with probability `prob` a synthetic pair takes the sample's place.

    Over an epoch of 50 samples a coin at 0.3 delivers anything from 18 % to 42 %;
    `SyntheticRealDataset` delivers the share that was asked.

    It belongs after the deterministic preprocessing of the real sample; the
    `transform` of `synthetic` brings its volumes to the same state. A synthetic
    pair leaves with the dtypes of the pair it replaces.

    Args:
        synthetic: Where synthetic pairs come from.
        prob: Probability of a replacement, in [0, 1].
        pool: Volumes are drawn among the first `pool` of `synthetic`.

    Raises:
        RatioError: if `prob` is not in [0, 1].
        DataError: if `pool` is not a positive integer.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012  # as MONAI declares it

    def __init__(self, synthetic: SyntheticDataset, prob: float = 0.1, pool: int = 64) -> None:
        RandomizableTransform.__init__(self, probability(prob))
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            msg = f"pool must be a positive number of volumes, got {pool!r}"
            raise DataError(msg)
        self.synthetic = synthetic
        self.pool = pool
        self.volume = 0
        self.view_seed = 0

    @property
    def is_applied(self) -> bool:
        """Whether the last toss chose a synthetic pair."""
        return bool(self._do_transform)

    def randomize(self, data: Any | None = None) -> None:
        """Toss the coin; if it falls on synthetic, draw volume and view."""
        super().randomize(None)
        if not self._do_transform:
            return
        self.volume = int(self.R.randint(self.pool))
        self.view_seed = int(self.R.randint(MAX_SEED, dtype="uint32"))

    def drawn(self) -> dict[str, Any] | None:
        """The item that the last toss chose; `None` if it failed and the real sample stays.

        Raises:
            GenerationError: if the generator failed, and so did any substitute.
        """
        try:
            return self.synthetic.item(self.volume, self.view_seed)
        except GenerationError:
            if self.synthetic.on_failure != "real":
                raise
        self.synthetic.replaced_by_real()
        return None

    def __call__(
        self,
        image: NdarrayOrTensor,
        label: NdarrayOrTensor | None = None,
        randomize: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The pair, or a synthetic one.

        Args:
            image: `[C, X, Y, Z]`.
            label: `[1, X, Y, Z]`, or `None` for an image alone.
            randomize: Toss anew; else the last toss holds.
        """
        if randomize:
            self.randomize()
        pair = as_tensor(image), None if label is None else as_tensor(label)
        if not self._do_transform:
            return pair
        item = self.drawn()
        if item is None:
            return pair
        new_label = None if pair[1] is None else replacement(item, "label", pair[1])
        return replacement(item, "image", pair[0]), new_label


class RandSyntheticVolumed(RandomizableTransform, MapTransform, InvertibleTransform):
    """A coin toss, not a share. Dictionary-based version of :py:class:`RandSyntheticVolume`.

    One toss for all keys. Whatever the coin says, `synthetic` (0 or 1) and
    `provenance` (one JSON string) are added, so that samples can be collated.

    Args:
        keys: keys of the corresponding items to be transformed: that of the image, or
            that of the image and that of the label.
            See also: :py:class:`monai.transforms.compose.MapTransform`
        synthetic: Where synthetic pairs come from.
        prob: Probability of a replacement, in [0, 1].
        pool: Volumes are drawn among the first `pool` of `synthetic`.
        allow_missing_keys: don't raise exception if key is missing.

    Raises:
        RatioError: if `prob` is not in [0, 1].
        DataError: if `pool` is not a positive integer, or there are more than two keys.
        LabelError: if there is a key of the label, and the synthetic volumes have none.
    """

    backend = RandSyntheticVolume.backend

    def __init__(
        self,
        keys: KeysCollection,
        synthetic: SyntheticDataset,
        prob: float = 0.1,
        pool: int = 64,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, probability(prob))
        if len(self.keys) > len(PARTS):
            msg = f"keys must be that of the image and that of the label, got {self.keys}"
            raise DataError(msg)
        if len(self.keys) == len(PARTS):
            synthetic.check_labels(f"`{self.keys[1]}` is to be replaced too")
        self.replace = RandSyntheticVolume(synthetic, prob=1.0, pool=pool)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> RandSyntheticVolumed:
        """Seed the coin, and what draws volume and view."""
        super().set_random_state(seed, state)
        # Another stream than the coin's, or volumes would depend on how it fell.
        self.replace.set_random_state(seed=int(self.R.randint(MAX_SEED, dtype="uint32")))
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample, or a synthetic one, under the same keys."""
        d = dict(data)
        part_of = dict(zip(self.keys, PARTS, strict=False))
        present = list(self.key_iterator(d))
        self.randomize(None)
        # Nothing to replace: not a synthetic sample, whatever the coin says.
        is_synthetic = bool(self._do_transform and present)
        name = file_name(d[present[0]]) if present else ""
        for key in present:
            d[key] = as_tensor(d[key])
        item = None
        if is_synthetic:
            self.replace.randomize()
            item = self.replace.drawn()
        if item is not None:
            for key in present:
                d[key] = replacement(item, part_of[key], d[key])
            d["synthetic"], d["provenance"] = 1, item["provenance"]
            return d
        return stayed_real(d, name, is_substitute=is_synthetic)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A real sample as it is.

        Raises:
            DataError: for a synthetic sample, which has no earlier state.
        """
        return refuse_inverse(self, data)


RandSyntheticVolumeD = RandSyntheticVolumeDict = RandSyntheticVolumed


def replacement(item: Mapping[str, Any], part: str, replaced: torch.Tensor) -> torch.Tensor:
    """Image or label of a synthetic item, with the dtype of what it replaces.

    Raises:
        DataError: if the item has no such part, or the dtype cannot hold it.
    """
    if part not in item:
        msg = (
            f"the synthetic volumes have no {part}, but the sample has one; use a variant with "
            "labels, or give the key of the image alone"
        )
        raise DataError(msg)
    new: torch.Tensor = item[part]
    cast = new.to(replaced.dtype)
    if not replaced.dtype.is_floating_point and not bool((cast.to(new.dtype) == new).all()):
        msg = (
            f"the {part} is {replaced.dtype}, which cannot hold the synthetic one; convert it "
            "first, for instance with EnsureTyped(dtype=torch.float32)"
        )
        raise DataError(msg)
    if isinstance(cast, MetaTensor):
        # What was done to make the volume is not what was done to the real sample.
        cast.applied_operations = []
    return cast


def stayed_real(d: dict[Hashable, Any], name: str, *, is_substitute: bool) -> dict[Hashable, Any]:
    """The sample with `synthetic` and `provenance`, unless it came with them.

    Args:
        d: The sample, which is changed.
        name: File of its image.
        is_substitute: Whether it stands for a volume that could not be made.
    """
    d.setdefault("synthetic", 0)
    if "provenance" not in d:
        status = "substitute" if is_substitute else "planned"
        d["provenance"] = Provenance(source="real", uid=name, status=status).to_json()
    return d


def refuse_inverse(transform: MapTransform, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """A real sample as it is.

    Raises:
        DataError: for a synthetic sample, which has no earlier state.
    """
    d = dict(data)
    for key in transform.key_iterator(d):
        if file_name(d[key]).startswith("nvgen:") or d.get("synthetic", 0):
            msg = (
                f"`{key}` is synthetic, so there is no real sample to go back to; keep the "
                "samples with `synthetic` 0 before you invert"
            )
            raise DataError(msg)
    return d


def as_tensor(value: Any) -> torch.Tensor:
    """An array or tensor as what MONAI tracks: a MetaTensor, unless tracking is off."""
    tensor: torch.Tensor = convert_to_tensor(value, track_meta=get_track_meta())
    return tensor


def probability(prob: float) -> float:
    """A probability as it was given.

    Raises:
        RatioError: unless it is a number in [0, 1].
    """
    # MONAI clamps silently.
    if isinstance(prob, bool) or not isinstance(prob, (int, float)) or not 0 <= prob <= 1:
        hint = (
            f" (did you mean {prob / 100}?)"
            if isinstance(prob, (int, float)) and 2 <= prob <= 100
            else ""
        )
        msg = f"prob must be a number in [0, 1], got {prob!r}{hint}"
        raise RatioError(msg)
    return float(prob)
