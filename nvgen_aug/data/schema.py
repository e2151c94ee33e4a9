"""Schema: what every item looks like, real or synthetic, and the checks on real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data import get_track_meta

from ..errors import DataError
from ..provenance import Provenance
from ..volume import SyntheticVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

Item = dict[str, Any]

IMAGE = "image"
LABEL = "label"
SYNTHETIC = "synthetic"
PROVENANCE = "provenance"
AFFINE_TOLERANCE_MM = 1e-3


def synthetic_item(
    volume: SyntheticVolume, label: NDArray[np.uint8] | None, provenance: Provenance
) -> Item:
    """A volume as an item, as if `LoadImaged` and `EnsureChannelFirstd` had read it.

    Args:
        volume: Image, affine and key.
        label: `[1, X, Y, Z]` in ids of the task, or `None` for an image alone.
        provenance: The record that goes with it.
    """
    affine = torch.from_numpy(np.array(volume.affine, dtype=np.float64))
    name = f"nvgen:{provenance.uid}"
    item = {IMAGE: _tensor(torch.from_numpy(volume.image.astype(np.float32)), affine, name)}
    if label is not None:
        item[LABEL] = _tensor(torch.from_numpy(label.astype(np.float32)), affine, name)
    return {**item, SYNTHETIC: 1, PROVENANCE: provenance.to_json()}


def real_item(raw: Any, case: int, *, check: bool = True, status: str = "planned") -> Item:
    """What the caller's dataset answered, in the schema of all items.

    `image` and `label` (channel first, `[C, X, Y, Z]`) become float32 MetaTensors
    with the meta keys that synthetic items have; all other entries are dropped,
    because an entry that only some items have is lost, or fails, in collation. The
    voxels are copied: what a transform writes into an item never reaches a dataset
    that keeps its cases in memory.

    Args:
        raw: A mapping with `image` and, for segmentation, `label`.
        case: Its number.
        check: Look at every voxel, see `check_item`.
        status: What provenance says about it.

    Raises:
        DataError: naming the case and what is wrong with it.
    """
    if not isinstance(raw, Mapping) or IMAGE not in raw:
        found = f"keys {sorted(map(str, raw))}" if isinstance(raw, Mapping) else type(raw).__name__
        hint = (
            "; a transform that makes several samples of one belongs in `transform=`"
            if isinstance(raw, list)
            else "; rename yours with RenameKeysd or in the data list"
        )
        msg = f"real case {case} must be a mapping with `image` (and `label`), got {found}{hint}"
        raise DataError(msg)
    name = file_name(raw[IMAGE]) or f"real:{case}"
    item: Item = {}
    for key in (IMAGE, LABEL):
        if key in raw:
            item[key] = _real_tensor(raw[key], key, name)
    if check:
        check_item(raw, item, name)
    provenance = Provenance(source="real", uid=name, status=status)
    return {**item, SYNTHETIC: 0, PROVENANCE: provenance.to_json()}


def uniform(item: Item) -> Item:
    """The item with image and label as float32 and with no meta keys but those of the schema.

    For what a caller's deterministic transform made of a synthetic item.
    """
    result = dict(item)
    for key in (IMAGE, LABEL):
        if key in item:
            name = file_name(item[key]) or "nvgen:"
            result[key] = _real_tensor(item[key], key, name)
    return result


def check_item(raw: Mapping[str, Any], item: Item, name: str) -> None:
    """Look at every voxel of a real item; one pass each, about 1 ms per million voxels.

    Raises:
        DataError: for voxels that are not finite, a spacing that is none, an image and a
            label on different grids, and labels that are not integers.
    """
    for key in (IMAGE, LABEL):
        if key in item:
            _check_finite(_plain(item[key]), key, name)
            _check_spacing(raw[key], key, name)
    if LABEL not in item:
        return
    image, label = item[IMAGE], item[LABEL]
    if image.shape[1:] != label.shape[1:]:
        msg = (
            f"`{name}`: image and label must have one grid, got {list(image.shape[1:])} and "
            f"{list(label.shape[1:])} voxels; resample one to the other, for instance with "
            "ResampleToMatchd"
        )
        raise DataError(msg)
    if isinstance(raw[IMAGE], MetaTensor) and isinstance(raw[LABEL], MetaTensor):
        ours, theirs = raw[IMAGE].affine, raw[LABEL].affine
        if not torch.allclose(ours.double(), theirs.double(), rtol=0, atol=AFFINE_TOLERANCE_MM):
            msg = (
                f"`{name}`: image and label must have one affine, got {ours.tolist()} and "
                f"{theirs.tolist()}; resample one to the other, for instance with ResampleToMatchd"
            )
            raise DataError(msg)
    plain = _plain(label)
    broken = plain != plain.round()
    if bool(broken.any()):
        first = tuple(int(i) for i in broken.nonzero()[0])
        msg = (
            f"`{name}`: labels must be integers, got {float(plain[first])} at {first} and "
            f"{int(broken.sum())} such voxels; resample labels with mode='nearest'"
        )
        raise DataError(msg)


def _check_finite(tensor: torch.Tensor, key: str, name: str) -> None:
    # A sum is not finite if any voxel is not; only then is it worth to look closer.
    if bool(torch.isfinite(tensor.sum())):
        return
    broken = ~torch.isfinite(tensor)
    if bool(broken.any()):
        first = tuple(int(i) for i in broken.nonzero()[0])
        kind = "NaN" if bool(torch.isnan(tensor[first])) else "infinite"
        msg = (
            f"`{name}`: {key} has {int(broken.sum())} NaN or infinite voxels, the first ({kind}) "
            f"at {first}; mend the file, or replace them, for instance with SignalFillEmptyd"
        )
        raise DataError(msg)


def _check_spacing(value: Any, key: str, name: str) -> None:
    """Refuse an affine that squashes the volume flat, or says nothing of where it lies."""
    if not isinstance(value, MetaTensor):
        return
    affine = value.affine.detach().cpu().double()
    spacing = affine[:3, :3].norm(dim=0)
    # The volume of a voxel against that of a box of its edges: 0 if two axes are one.
    is_flat = bool(spacing.min() <= 0) or abs(float(affine[:3, :3].det() / spacing.prod())) < 1e-6
    if not bool(torch.isfinite(affine).all()) or is_flat:
        msg = (
            f"`{name}`: {key} must have a spacing above 0 mm along three different axes, got "
            f"{spacing.tolist()} with the affine {affine.tolist()}; mend the header of the file"
        )
        raise DataError(msg)


def _real_tensor(value: Any, key: str, name: str) -> torch.Tensor:
    try:
        plain = _plain(value)
        # Copied, because a worker that hands a tensor on moves its memory, and a dataset that
        # keeps its cases in memory may be reading the same tensor for the next batch.
        if isinstance(plain, torch.Tensor):
            tensor = plain.to(torch.float32, copy=True)
        else:
            tensor = torch.tensor(plain, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "; load it first, for instance with LoadImaged" if isinstance(value, str) else ""
        msg = f"`{name}`: {key} must be an array or tensor, got {type(value).__name__}{hint}"
        raise DataError(msg) from error
    if tensor.ndim != 4:
        msg = (
            f"`{name}`: {key} must be channel first [C, X, Y, Z], got shape {list(tensor.shape)}; "
            "add EnsureChannelFirstd"
        )
        raise DataError(msg)
    if not isinstance(value, MetaTensor):
        return _tensor(tensor, torch.eye(4, dtype=torch.float64), name)
    affine = value.affine.detach().cpu().to(torch.float64).clone()
    space = str(value.meta.get("space", "RAS"))
    return _tensor(tensor, affine, name, list(value.applied_operations), space)


def _tensor(
    data: torch.Tensor,
    affine: torch.Tensor,
    name: str,
    applied: list[Any] | None = None,
    space: str = "RAS",
) -> torch.Tensor:
    if not get_track_meta():
        return data
    spacing = affine[:3, :3].norm(dim=0).numpy()
    # As a NIfTI header has it: MONAI's transforms write the spacing to places 1 to 3.
    pixdim = np.array([1.0, *spacing, 1.0, 1.0, 1.0, 1.0], dtype=np.float32)
    meta = {
        "space": space,
        "pixdim": pixdim,
        "original_channel_dim": float("nan"),
        "filename_or_obj": name,
    }
    return MetaTensor(data, affine=affine.clone(), meta=meta, applied_operations=applied or [])


def _plain(value: Any) -> Any:
    return value.as_tensor() if isinstance(value, MetaTensor) else value


def file_name(value: Any) -> str:
    """The file that a MetaTensor says it was read from, or an empty text."""
    name = value.meta.get("filename_or_obj", "") if isinstance(value, MetaTensor) else ""
    return name if isinstance(name, str) else ""
