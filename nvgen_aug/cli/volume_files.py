"""VolumeFiles: one volume in a folder, as NIfTI image and label with a JSON sidecar."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from ..card import VariantCard
from ..errors import DataError
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from ..whole_file import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """The files of one volume.

    Each appears whole, written beside its final place and renamed into it, and the
    sidecar last. It holds the SHA-256 of the others, so a volume whose sidecar agrees
    with them is complete, and one that was cut short is made again.

    Args:
        folder: Where they are.
        name: Their name without endings.
        suffix, label_suffix: What the names of image and label end with, before the dot.
        section: Under which name the sidecar holds the record; at its top for none.
        head: What stands at the top of the sidecar.
    """

    folder: Path
    name: str
    suffix: str = ""
    label_suffix: str = "_label"
    section: str = ""
    head: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def beside(cls, sidecar: Path) -> VolumeFiles:
        """The files that a sidecar speaks of, in whichever layout it lies."""
        name = sidecar.name.removesuffix(".json")
        stem, bar, suffix = name.rpartition("_")
        if bar and stem.startswith("sub-"):
            return cls(sidecar.parent, stem, suffix=f"_{suffix}", label_suffix="_dseg")
        return cls(sidecar.parent, name)

    @property
    def image(self) -> Path:
        """int16 voxels."""
        return self.folder / f"{self.name}{self.suffix}.nii.gz"

    @property
    def label(self) -> Path:
        """uint8 ids of the vocabulary."""
        return self.folder / f"{self.name}{self.label_suffix}.nii.gz"

    @property
    def sidecar(self) -> Path:
        """Provenance, spec and vocabulary."""
        return self.folder / f"{self.name}{self.suffix}.json"

    def hold(self, uid: str) -> bool:
        """Whether the whole volume of this key is here already."""
        try:
            record = json.loads(self.sidecar.read_text(encoding="utf-8"))
            record = record[self.section] if self.section else record
            return bool(record["provenance"]["uid"] == uid) and all(
                _sha256((self.folder / name).read_bytes()) == digest
                for name, digest in record["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def read(self) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
        """Image and label `[X, Y, Z]`, or `[X, Y, Z, C]` for several channels."""
        return _voxels(self.image), _voxels(self.label) if self.label.exists() else None

    def affine(self) -> NDArray[np.float64]:
        """Voxel to world in mm, `[4, 4]`, as the image has it."""
        picture: Any = import_module("nibabel").load(self.image)
        return np.asarray(picture.affine, np.float64)

    def write(self, volume: SyntheticVolume, spec: VolumeSpec, card: VariantCard | None) -> None:
        """Put a volume here, over what was here.

        Args:
            volume: The whole volume.
            spec: What it was made of, resolved.
            card: Of the variant that made it; without one the sidecar does not say
                what labels and intensities mean.

        Raises:
            DataError: if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Without its sidecar, an older volume under this name no longer counts as one.
            self.sidecar.unlink(missing_ok=True)
            image = np.moveaxis(volume.image, 0, -1)
            files = {self.image: _nifti(image[..., 0] if image.shape[-1] == 1 else image, volume)}
            if volume.label is None:
                self.label.unlink(missing_ok=True)
            else:
                files[self.label] = _nifti(volume.label[0], volume)
            for path, content in files.items():
                with replacing(path) as partial:
                    partial.write_bytes(content)
            record: dict[str, Any] = {
                "provenance": json.loads(volume.provenance.to_json()),
                "spec": json.loads(spec.to_json()),
                "vocabulary": dict(card.vocabulary) if card and card.has_labels else {},
                "intensity": card.intensity if card else "",
                "files": {path.name: _sha256(content) for path, content in files.items()},
            }
            if self.section:
                record = {**dict(self.head), self.section: record}
            text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            with replacing(self.sidecar) as partial:
                partial.write_bytes(text.encode())
        except OSError as error:
            msg = f"cannot write to {self.folder}: {error.strerror}; choose another folder"
            raise DataError(msg) from error


def read_array(
    path: Path, what: str = "label map"
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Voxels `[X, Y, Z]` and affine of a NIfTI file, its axes towards right, front and head.

    Raises:
        DataError: It cannot be read, or is no volume.
    """
    untyped: Any = import_module("nibabel")
    try:
        picture = untyped.as_closest_canonical(untyped.load(path))
        voxels: NDArray[np.generic] = np.asarray(picture.dataobj)
    except (OSError, ValueError, untyped.filebasedimages.ImageFileError) as error:
        msg = f"cannot read the {what} {path}: {error}; give a NIfTI file"
        raise DataError(msg) from error
    if voxels.ndim != 3:
        msg = f"the {what} must be [X, Y, Z], got {list(voxels.shape)} in {path}"
        raise DataError(msg)
    return voxels, np.asarray(picture.affine, np.float64)


def _nifti(voxels: NDArray[np.generic], volume: SyntheticVolume) -> bytes:
    untyped: Any = import_module("nibabel")  # takes a second, and --help does without it
    picture = untyped.Nifti1Image(np.ascontiguousarray(voxels), volume.affine)
    picture.header.set_xyzt_units("mm")
    picture.header["descrip"] = f"synthetic, {volume.provenance.uid[:48]}".encode()
    # No time and no file name inside: the same volume gives the same file.
    return gzip.compress(picture.to_bytes(), compresslevel=6, mtime=0)


def _voxels(path: Path) -> NDArray[np.generic]:
    picture: Any = import_module("nibabel").load(path)
    voxels: NDArray[np.generic] = np.asarray(picture.dataobj)
    return voxels


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
