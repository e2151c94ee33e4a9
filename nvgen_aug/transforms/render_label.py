"""RandRenderLabel and RandRenderLabeld: a new image for a sample's own label, by chance."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform
from monai.transforms import MapTransform
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends
from numpy.typing import NDArray

from ..data.schema import Item
from ..data.schema import file_name
from ..data.schema import synthetic_item
from ..data.seeds import derived_seed
from ..errors import DataError
from ..errors import GenerationError
from ..errors import SpecError
from ..labels import LabelMap
from ..recipe import Recipe
from ..source import VolumeSource
from ..volume import Blob
from ..volume import SyntheticVolume
from .synthetic_volume import as_tensor
from .synthetic_volume import probability
from .synthetic_volume import refuse_inverse
from .synthetic_volume import replacement
from .synthetic_volume import stayed_real
from .upright_grid import UprightGrid

ON_FAILURE = ("raise", "real")


class RandRenderLabel(RandomizableTransform):
    """With probability `prob` the image is a synthetic one, made for the sample's own label.

    The label stays as it is, voxel by voxel: it travels to `source` once, by its digest, and
    the generator makes an image that follows it, on the same grid and the same way round. A
    label of `pool` images gets each of them again and again, so that a cache can answer.

    It belongs after loading and resampling, where each label has the size and spacing that
    the variant makes, and before the crops. If intensities are scaled before it,
    `transform` scales those of the synthetic image alike.

    Args:
        source: Who makes images; served, if a loader has workers.
        labels: Ids of the task by label name of the variant, one name for each id; `None`
            if labels hold ids of the variant's vocabulary.
        prob: Probability of a new image, in [0, 1].
        pool: How many images there are for one label.
        recipe: What else is wanted, such as `Recipe(modality=["mri_t1", "mri_t2"])`; its
            spacing is that of labels that have no affine.
        transform: Deterministic steps for the synthetic image, on a mapping with `image`;
            they must not change its grid.
        on_failure: What happens if the generator fails on a label: `"raise"`, or `"real"`,
            which leaves the sample as it is and says so in its provenance.

    Raises:
        RatioError: if `prob` is not in [0, 1].
        LabelError: if the vocabulary lacks a name, or one id stands for several names.
        SpecError: if the variant cannot follow a label, or cannot make what the recipe wants.
        DataError: for another argument out of range.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012  # as MONAI declares it

    def __init__(
        self,
        source: VolumeSource,
        labels: LabelMap | Mapping[str, int] | None = None,
        prob: float = 0.1,
        pool: int = 4,
        recipe: Recipe | None = None,
        transform: Callable[[Any], Any] | None = None,
        on_failure: str = "raise",
    ) -> None:
        RandomizableTransform.__init__(self, probability(prob))
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            msg = f"pool must be a positive number of images for one label, got {pool!r}"
            raise DataError(msg)
        if on_failure not in ON_FAILURE:
            msg = f"on_failure must be one of {ON_FAILURE}, got {on_failure!r}"
            raise DataError(msg)
        card = source.card
        if isinstance(labels, Mapping):
            labels = LabelMap(labels, others="error")
        self.to_variant = None if labels is None else labels.inverse(card)
        self.source = source
        self.pool = pool
        self.recipe = _checked(recipe or Recipe())
        # A label on the default grid stands for all: what can never be made is said now.
        replace(self.recipe, mask="0" * 64, spacing=None).check(card)
        self.transform = transform
        self.on_failure = on_failure
        self.number = 0

    def randomize(self, data: Any | None = None) -> None:
        """Toss the coin; if it falls on synthetic, draw which of the label's images it is."""
        super().randomize(None)
        if self._do_transform:
            self.number = int(self.R.randint(self.pool))

    def __call__(
        self, image: NdarrayOrTensor, label: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair, or a synthetic image with the same label.

        Args:
            image: `[C, X, Y, Z]`.
            label: `[1, X, Y, Z]` integers, on the grid of the image.
            randomize: Toss anew; else the last toss holds.

        Raises:
            DataError: for a label that is none, or on another grid.
            SpecError: for a size or spacing that the variant does not make.
            LabelError: for an id that stands for no label of the variant.
            GenerationError: if the generator failed and `on_failure` is `"raise"`.
        """
        if label is None:  # optional in the signature alone, as MONAI's transforms take one datum
            msg = "a label is needed, since the image is made for it; call with (image, label)"
            raise DataError(msg)
        if randomize:
            self.randomize()
        pair = as_tensor(image), as_tensor(label)
        if not self._do_transform:
            return pair
        item = self.rendered(*pair, is_placed=isinstance(label, MetaTensor))
        return (pair[0] if item is None else replacement(item, "image", pair[0])), pair[1]

    def rendered(self, image: torch.Tensor, label: torch.Tensor, *, is_placed: bool) -> Item | None:
        """A new image for a label, as an item; `None` if it failed and the sample stays.

        Args:
            image: `[C, X, Y, Z]`.
            label: `[1, X, Y, Z]`.
            is_placed: Whether the label came with an affine; MONAI gives one to all others.
        """
        name = file_name(label) or file_name(image)
        if label.ndim != 4 or label.shape[0] != 1 or image.shape[1:] != label.shape[1:]:
            msg = (
                "a label to render must be [1, X, Y, Z] on the grid of its image [C, X, Y, Z], got "
                f"{list(label.shape)} and {list(image.shape)}; put this transform after "
                "EnsureChannelFirstd and Spacingd"
            )
            raise DataError(msg)
        grid = UprightGrid.of(
            _affine(label) if is_placed else None, label.shape, self.recipe.spacing, name
        )
        ids = grid.upright(self._ids(label, name))
        try:
            volume = self._made(grid, ids, name)
        except GenerationError:
            if self.on_failure == "raise":
                raise
            return None
        if volume.shape != ids.shape or volume.image.shape[0] != image.shape[0]:
            msg = (
                f"`{self.source.card.name}` made {list(volume.image.shape)} for `{name}`, whose "
                f"image is {list(image.shape)}; a sample keeps its number of channels and voxels"
            )
            raise DataError(msg)
        provenance = volume.provenance.with_(mask_parent=name, content=volume.digest())
        turned = SyntheticVolume(
            np.ascontiguousarray(grid.back(volume.image)), None, _affine(label), volume.provenance
        )
        item = synthetic_item(turned, None, provenance)
        if self.transform is None:
            return item
        new = self.transform({"image": item["image"]})["image"]
        if new.shape != item["image"].shape:
            msg = (
                "the `transform` of a rendered image must keep its grid, since the label stays, "
                f"got {list(new.shape)} from {list(item['image'].shape)}"
            )
            raise DataError(msg)
        return {**item, "image": as_tensor(new)}

    def _ids(self, label: torch.Tensor, name: str) -> NDArray[np.uint8]:
        """`[X, Y, Z]` ids of the vocabulary."""
        plain = label.as_tensor() if isinstance(label, MetaTensor) else label
        voxels = plain.detach().cpu().numpy()[0]
        with np.errstate(invalid="ignore"):  # NaN, which is told below
            ids = voxels.astype(np.uint8)
        if not (ids == voxels).all():  # NaN is unequal to all
            wrong = voxels[ids != voxels].ravel()
            msg = (
                f"the label of `{name}` must hold integers in [0, 255], got {wrong[0]} and "
                f"{wrong.size} such voxels; resample labels with mode='nearest'"
            )
            raise DataError(msg)
        return ids if self.to_variant is None else self.to_variant(ids)

    def _made(self, grid: UprightGrid, ids: NDArray[np.uint8], name: str) -> SyntheticVolume:
        digest = Blob(ids, grid.upright_affine).digest()
        x, y, z = ids.shape
        wanted = replace(self.recipe, mask=digest, size=(x, y, z), spacing=grid.spacing)
        card = self.source.card
        rng = np.random.default_rng(derived_seed("render", digest, self.number))
        try:
            spec = card.resolve(wanted.draw(rng, variant=card.name))
        except SpecError as error:
            msg = (
                f"the label of `{name}` cannot be rendered: {error}; bring labels there before, "
                "for instance with Spacingd and ResizeWithPadOrCropd"
            )
            raise SpecError(msg) from error
        self.source.put(ids, grid.upright_affine)
        volume = self.source.fetch(spec)
        if volume.label is not None and ((volume.label[0] != ids) & (ids > 0)).any():
            msg = (
                f"`{card.name}` followed another label than that of `{name}`; leave out of the "
                "recipe what changes labels"
            )
            raise DataError(msg)
        return volume


class RandRenderLabeld(RandomizableTransform, MapTransform, InvertibleTransform):
    """Dictionary-based version of :py:class:`RandRenderLabel`.

    One toss for both keys. Whatever the coin says, `synthetic` (0 or 1) and `provenance`
    (one JSON string) are added, so that samples can be collated; the provenance of a
    rendered sample names the file of its label and the digest under which it travelled.

    Args:
        keys: keys of the corresponding items to be transformed: that of the image, then
            that of the label, which stays.
            See also: :py:class:`monai.transforms.compose.MapTransform`
        source, labels, prob, pool, recipe, transform, on_failure: As in
            :py:class:`RandRenderLabel`.
        allow_missing_keys: don't raise exception if key is missing; nothing is rendered then.

    Raises:
        DataError: if there are not two keys; else as :py:class:`RandRenderLabel`.
    """

    backend = RandRenderLabel.backend

    def __init__(
        self,
        keys: KeysCollection,
        source: VolumeSource,
        labels: LabelMap | Mapping[str, int] | None = None,
        prob: float = 0.1,
        pool: int = 4,
        recipe: Recipe | None = None,
        transform: Callable[[Any], Any] | None = None,
        on_failure: str = "raise",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, probability(prob))
        if len(self.keys) != 2:
            msg = f"keys must be that of the image and that of the label, got {self.keys}"
            raise DataError(msg)
        self.render = RandRenderLabel(source, labels, 1.0, pool, recipe, transform, on_failure)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> RandRenderLabeld:
        """Seed the coin, and what draws the image."""
        super().set_random_state(seed, state)
        # Another stream than the coin's, or images would depend on how it fell.
        self.render.set_random_state(seed=int(self.R.randint(2**32, dtype="uint32")))
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The sample, or one with a synthetic image, under the same keys."""
        d = dict(data)
        present = list(self.key_iterator(d))
        self.randomize(None)
        is_rendered = bool(self._do_transform and len(present) == len(self.keys))
        is_placed = isinstance(d.get(self.keys[1]), MetaTensor)
        for key in present:
            d[key] = as_tensor(d[key])
        name = file_name(d[present[0]]) if present else ""
        item = None
        if is_rendered:
            image, label = self.keys
            self.render.randomize()
            item = self.render.rendered(d[image], d[label], is_placed=is_placed)
            if item is not None:
                d[image] = replacement(item, "image", d[image])
        if item is not None:
            d["synthetic"], d["provenance"] = 1, item["provenance"]
            return d
        return stayed_real(d, name, is_substitute=is_rendered)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A real sample as it is.

        Raises:
            DataError: for a rendered sample, whose image has no earlier state.
        """
        return refuse_inverse(self, data)


RandRenderLabelD = RandRenderLabelDict = RandRenderLabeld


def _affine(tensor: torch.Tensor) -> NDArray[np.float64]:
    """Voxel to world in mm; that of plain tensors is the identity."""
    if isinstance(tensor, MetaTensor):
        return np.asarray(tensor.affine.detach().cpu(), np.float64)
    return np.eye(4)


def _checked(recipe: Recipe) -> Recipe:
    for name in ("mask", "size"):
        if getattr(recipe, name) is not None:
            msg = f"the `{name}` of a rendered volume is that of the label; leave it out of recipe"
            raise DataError(msg)
    if recipe.pathology or recipe.anatomy:
        msg = (
            "a label is rendered as it is, so the recipe cannot ask for `pathology` or `anatomy`; "
            "use RandSyntheticVolumed for volumes with labels of their own"
        )
        raise DataError(msg)
    return recipe
