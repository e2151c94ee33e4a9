"""Contents: what an entry holds, read back as volumes, latents and arrays of the caller."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from ..crop import Crop
from ..crop import CropRule
from ..crop import crop_text
from ..provenance import Provenance
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Latent
from ..volume import SyntheticVolume
from .entry import DAMAGE
from .entry import Damaged
from .entry import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray


def describe(affine: NDArray[np.float64], provenance: Provenance) -> dict[str, Any]:
    """Attributes of an entry that hold the affine and the provenance."""
    # Python writes a float so that the same one is read.
    return {
        "affine": np.asarray(affine, dtype=np.float64).tolist(),
        "provenance": provenance.to_json(),
    }


def read_volume(
    entry: Entry, crop: Crop | CropRule | None, vocabulary: Mapping[str, int]
) -> SyntheticVolume:
    """The volume of an entry, or the part that a crop or a rule names."""
    _, x, y, z = entry.shape("image")
    label: NDArray[np.uint8] | None = None
    if isinstance(crop, CropRule):
        # A rule without centres draws a place alike whatever the label.
        if crop.centre is not None and "label" in entry:
            label = entry.read("label", dtype=np.uint8)
        crop = crop.resolve((x, y, z), label, vocabulary)
        if label is not None:
            label = np.ascontiguousarray(label[(slice(None), *crop.slices)])
    elif crop is not None:
        crop.check_inside((x, y, z))
    box = () if crop is None else crop.slices
    image = entry.read("image", box, np.int16)
    if label is None and "label" in entry:
        label = entry.read("label", box, np.uint8)
    affine, provenance = _facts(entry)
    if crop is not None:
        affine = crop.moved(affine)
        provenance = provenance.with_(crop=crop_text(crop))
    return SyntheticVolume(image, label, affine, provenance, crop)


def read_latent(entry: Entry) -> Latent:
    """The latent of an entry."""
    affine, provenance = _facts(entry)
    with _understood(entry):
        spec = VolumeSpec.from_json(entry.attributes["spec"])
    return Latent(
        spec=spec,
        tensor=entry.read("tensor", dtype=np.float16),
        label=entry.read("label", dtype=np.uint8) if "label" in entry else None,
        affine=affine,
        provenance=provenance,
        statistics=entry.read("statistics", dtype=np.float32) if "statistics" in entry else None,
    )


def read_blob(entry: Entry) -> Blob:
    """The array of an entry, whose digest must be its key."""
    blob = Blob(entry.read("array"), _affine(entry))
    if blob.digest() != entry.commit.key:
        msg = f"{entry.directory} has another digest"
        raise Damaged(msg)
    return blob


def _facts(entry: Entry) -> tuple[NDArray[np.float64], Provenance]:
    with _understood(entry):
        provenance = Provenance.from_json(entry.attributes["provenance"])
    return _affine(entry), provenance


def _affine(entry: Entry) -> NDArray[np.float64]:
    with _understood(entry):
        return np.asarray(entry.attributes["affine"], dtype=np.float64).reshape(4, 4)


@contextmanager
def _understood(entry: Entry) -> Iterator[None]:
    """Turn what other attributes than ours would raise into damage."""
    try:
        yield
    except DAMAGE as error:
        msg = f"{entry.directory} has attributes that cannot be read: {error}"
        raise Damaged(msg) from error
