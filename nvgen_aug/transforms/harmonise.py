"""Harmonise and Harmonised: take from an image what gives its maker away, and not its content."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends
from scipy import ndimage

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SEED = 2**32
_PERCENTILES = (0.5, 99.5)
_SMALL = 0.05  # parts below this share of the largest one are specks in the air
_SMOOTH = 1  # voxels
_TO_SIGMA = 1.4826 / np.sqrt(6.0)  # from the median absolute second difference


class Harmonise(RandomizableTransform):
    """An image without what gives its maker away: put it in the augmentation of both kinds.

    A generator leaves marks that say nothing of the patient: air that is exactly constant,
    a clipping range, no noise in the dark, values of an integer type. A network can learn
    "looks synthetic, so there is a lesion" from these alone. In this order:

    1. the image is clipped to `clip`, and that range becomes [0, 1];
    2. what is dark and reaches the border is air, and becomes 0 (specks in it as well);
    3. Gaussian noise is added up to the level `noise` everywhere, so that no image is
       quieter than that, and none keeps the values of an integer type.

    It takes contrast from nothing that lies inside the body. An image noisier than `noise`
    stays so: ask for what the noisiest scans have. `nvgen-aug inspect` says how well the
    two kinds are told apart before and after.

    Args:
        clip: The range to keep, such as (-1000, 1000) HU; `None` takes the 0.5th and the
            99.5th percentile of each image.
        air: How bright air is at most, as a share of the range; 0 leaves the air alone.
        noise: Standard deviation of the noise after it, as a share of the range.

    Raises:
        DataError: for a range without extent, or shares outside [0, 1).
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012  # as MONAI declares it

    def __init__(
        self,
        clip: tuple[float, float] | None = None,
        air: float = 0.05,
        noise: float = 0.02,
    ) -> None:
        RandomizableTransform.__init__(self, 1.0)
        if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
            msg = f"clip must be a range (low, high) with low < high, or None, got {clip!r}"
            raise DataError(msg)
        for name, value in (("air", air), ("noise", noise)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                msg = f"{name} must be a share of the range in [0, 1), got {value!r}"
                raise DataError(msg)
        self.clip = clip
        self.air = air
        self.noise = noise
        self.seed = 0

    def randomize(self, data: Any | None = None) -> None:
        """Draw where the noise comes from."""
        super().randomize(None)
        self.seed = int(self.R.randint(MAX_SEED, dtype="uint32"))

    def __call__(self, image: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """The image as float32, its range about [0, 1].

        Args:
            image: `[C, X, Y, Z]`, or any other number of axes behind the first; each
                channel by itself.
            randomize: Draw new noise; else that of the last call.
        """
        if randomize:
            self.randomize()
        plain = image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)
        voxels = plain.detach().cpu().to(torch.float32).numpy()
        # Its own generator: numpy's newer one is several times faster than `R`.
        rng = np.random.default_rng(self.seed)
        parts = [self._channel(channel, rng) for channel in voxels]
        new = torch.from_numpy(np.stack(parts) if parts else voxels.copy()).to(plain.device)
        if isinstance(image, MetaTensor):
            untyped: Any = MetaTensor(new)
            new = untyped.copy_meta_from(image)
        return new

    def _channel(
        self, voxels: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        if voxels.size == 0:
            return voxels
        low, high = np.percentile(voxels, _PERCENTILES) if self.clip is None else self.clip
        reach = float(high - low) or 1.0
        scaled: NDArray[np.float32] = (voxels - np.float32(low)) / np.float32(reach)
        np.clip(scaled, 0.0, 1.0, out=scaled)
        body = _body(scaled, self.air)
        level = _noise_level(scaled, body)
        scaled[~body] = 0.0
        # Air has been made silent, so it needs all of the noise; the body what it lacks, and
        # a tenth of it at least, to cover the steps of an integer type.
        lacking = max(self.noise / 10, float(np.sqrt(max(0.0, self.noise**2 - level**2))))
        noise = rng.standard_normal(scaled.shape, dtype=np.float32)
        noise *= np.where(body, np.float32(lacking), np.float32(self.noise))
        scaled += noise
        return scaled


class Harmonised(RandomizableTransform, MapTransform):
    """Dictionary-based version of :py:class:`Harmonise`.

    Args:
        keys: keys of the corresponding items to be transformed: images, not labels.
            See also: :py:class:`monai.transforms.compose.MapTransform`
        clip, air, noise: As in :py:class:`Harmonise`.
        allow_missing_keys: don't raise exception if key is missing.

    Raises:
        DataError: for a range without extent, or shares outside [0, 1).
    """

    backend = Harmonise.backend

    def __init__(
        self,
        keys: KeysCollection,
        clip: tuple[float, float] | None = None,
        air: float = 0.05,
        noise: float = 0.02,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.harmonise = Harmonise(clip, air, noise)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> Harmonised:
        """Seed the noise."""
        super().set_random_state(seed, state)
        self.harmonise.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample with its images harmonised, each with noise of its own."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.harmonise(d[key])
        return d


HarmoniseD = HarmoniseDict = Harmonised


def _body(scaled: NDArray[np.float32], air: float) -> NDArray[np.bool_]:
    """All that is not air: air is dark, reaches the border, and may hold specks."""
    whole = np.ones(scaled.shape, dtype=bool)
    if not air:
        return whole
    dark = ndimage.uniform_filter(scaled, size=2 * _SMOOTH + 1) <= air
    parts, number = ndimage.label(dark)
    border = np.zeros(scaled.shape, dtype=bool)
    for axis in range(scaled.ndim):
        edge = [slice(None)] * scaled.ndim
        for place in (0, -1):
            border[(*edge[:axis], place, *edge[axis + 1 :])] = True
    outside = np.isin(parts, np.setdiff1d(np.unique(parts[border]), [0])) if number else ~whole
    body = ~outside
    parts, number = ndimage.label(body)
    if number > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        body = (sizes >= _SMALL * sizes.max())[parts]
    return body if body.any() else whole


def _noise_level(scaled: NDArray[np.float32], body: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise in the body, from second differences along one axis.

    Edges are few among all voxels, so the median passes over them.
    """
    if scaled.shape[-1] < 3:
        return 0.0
    bends = scaled[..., :-2] - 2 * scaled[..., 1:-1] + scaled[..., 2:]
    inside = np.abs(bends[body[..., 1:-1]])
    return float(np.median(inside) * _TO_SIGMA) if inside.size else 0.0
