"""DatasetFolder: image/label pairs in the layout of the Decathlon (MSD) or of nnU-Net."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import nibabel
import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NIFTI = (".nii.gz", ".nii")
_SAME_PLACE = 1e-2  # mm; headers written by different tools round differently


@final
@dataclass(frozen=True, slots=True)
class Case:
    """One image and its label, as files."""

    name: str
    image: Path
    label: Path

    def check(self) -> None:
        """Read both files and see that they can be trained on.

        Raises:
            DataError: naming the file, for one that cannot be read, for grids that
                differ, for NaN voxels and for labels that are not integers.
        """
        image, image_affine = _read(self.image)
        label, label_affine = _read(self.label)
        if not np.isfinite(image).all():
            bad = int(np.count_nonzero(~np.isfinite(image)))
            msg = (
                f"image {self.image} has {bad} voxels that are NaN or infinite, expected finite "
                "numbers; fill or crop them, or take the case out of dataset.json"
            )
            raise DataError(msg)
        if image.shape[:3] != label.shape[:3] or (label.ndim > 3 and label.shape[3:] != (1,)):
            msg = (
                f"image {self.image} has {list(image.shape[:3])} voxels and its label "
                f"{self.label} has {list(label.shape)}, expected one grid; resample the label"
            )
            raise DataError(msg)
        apart = float(np.abs(image_affine - label_affine).max())
        if apart > _SAME_PLACE:
            msg = (
                f"image {self.image} and its label {self.label} have affines that differ by up to "
                f"{apart:.3g}, expected one grid; resample the label or mend its header"
            )
            raise DataError(msg)
        if not np.array_equal(label, np.rint(label)):
            strange = label[label != np.rint(label)]
            msg = (
                f"label {self.label} has values such as {float(strange.flat[0]):.4g}, expected "
                "integers; it may have been resampled with linear interpolation"
            )
            raise DataError(msg)


@final
@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """What a `dataset.json` says, with every file found.

    Args:
        path: The folder.
        layout: `"Medical Segmentation Decathlon"` or `"nnU-Net"`.
        labels: Names and ids of the labels, background left out. Regions of
            several ids, which nnU-Net knows, have no single id and are not named.
        ids: Every id that the labels may have, background left out.
        cases: The training cases.
    """

    path: Path
    layout: str
    labels: Mapping[str, int]
    ids: frozenset[int]
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, path: Path, channel: int = 0) -> DatasetFolder:
        """Read `dataset.json` and find the files of the training cases.

        Args:
            path: A folder with `dataset.json`, `imagesTr` and `labelsTr`.
            channel: Which of several channels nnU-Net keeps in files of their own.

        Raises:
            DataError: for a missing or broken `dataset.json`, for missing files, and
                for an empty training list.
        """
        about = _about(path)
        labels, ids = _labels(about, path)
        if isinstance(about.get("training"), list):
            layout, cases = "Medical Segmentation Decathlon", _listed(path, about["training"])
        else:
            layout, cases = "nnU-Net", _found(path, about, channel)
        if not cases:
            msg = (
                f"{path / 'dataset.json'} lists no training cases, expected at least 2 with an "
                "image in imagesTr and a label in labelsTr"
            )
            raise DataError(msg)
        missing = [file for case in cases for file in (case.image, case.label) if not file.exists()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            step = "choose another --channel" if layout == "nnU-Net" else "take the case out of it"
            msg = (
                f"{missing[0]}{more} is missing, expected from {path / 'dataset.json'}; "
                f"complete the folder or {step}"
            )
            raise DataError(msg)
        return cls(path, layout, labels, ids, tuple(cases))


def _about(path: Path) -> dict[str, Any]:
    file = path / "dataset.json"
    if not path.is_dir():
        msg = f"--data must be a folder with a dataset.json, got {path}, which is no folder"
        raise DataError(msg)
    if not file.is_file():
        msg = (
            f"{path} has no dataset.json, expected the layout of the Medical Segmentation "
            "Decathlon or of nnU-Net: dataset.json, imagesTr, labelsTr"
        )
        raise DataError(msg)
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{file} cannot be read as JSON: {error}"
        raise DataError(msg) from error
    if not isinstance(about, dict):
        msg = f"{file} must hold one JSON object, got {type(about).__name__}"
        raise DataError(msg)
    return about


def _labels(about: Mapping[str, Any], path: Path) -> tuple[dict[str, int], frozenset[int]]:
    given = about.get("labels")
    try:
        if not isinstance(given, dict) or not given:
            raise ValueError
        # The Decathlon writes {"1": "liver"}, nnU-Net {"liver": 1} or {"region": [1, 2]}.
        if all(str(key).isdigit() for key in given):
            pairs: list[tuple[str, list[int]]] = [(str(n), [int(i)]) for i, n in given.items()]
        else:
            pairs = [
                (name, [int(i) for i in (ids if isinstance(ids, list) else [ids])])
                for name, ids in given.items()
            ]
    except (TypeError, ValueError) as error:
        msg = (
            f"`labels` in {path / 'dataset.json'} must map ids to names or names to ids, "
            f"got {json.dumps(given)[:100]}"
        )
        raise DataError(msg) from error
    names = {name: ids[0] for name, ids in pairs if len(ids) == 1 and ids[0] != 0}
    return names, frozenset(i for _, ids in pairs for i in ids if i != 0)


def _listed(path: Path, training: list[Any]) -> list[Case]:
    cases = []
    for entry in training:
        try:
            image, label = path / str(entry["image"]), path / str(entry["label"])
        except (KeyError, TypeError) as error:
            msg = (
                f"`training` in {path / 'dataset.json'} must list objects with `image` and "
                f"`label`, got {json.dumps(entry)[:100]}"
            )
            raise DataError(msg) from error
        cases.append(Case(_stem(image, NIFTI), image, label))
    return cases


def _found(path: Path, about: Mapping[str, Any], channel: int) -> list[Case]:
    ending = about.get("file_ending", ".nii.gz")
    if ending not in NIFTI:
        msg = f"`file_ending` in {path / 'dataset.json'} must be one of {NIFTI}, got {ending!r}"
        raise DataError(msg)
    for name in ("imagesTr", "labelsTr"):
        if not (path / name).is_dir():
            msg = f"{path} has no folder {name}, expected imagesTr and labelsTr beside dataset.json"
            raise DataError(msg)
    # Archives made on a Mac hold a twin `._case.nii.gz` of every file, which is no image.
    files = (f for f in sorted((path / "labelsTr").iterdir()) if not f.name.startswith("."))
    labels = [file for file in files if file.name.endswith(ending)]
    return [
        Case(
            _stem(label, (ending,)),
            path / "imagesTr" / f"{_stem(label, (ending,))}_{channel:04d}{ending}",
            label,
        )
        for label in labels
    ]


def _stem(file: Path, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if file.name.endswith(ending):
            return file.name.removesuffix(ending)
    return file.stem


def _read(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    try:
        image: Any = nibabel.load(file)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
        affine = np.asarray(image.affine, dtype=np.float64)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        msg = f"{file} is truncated or not a NIfTI file ({reason}); copy it anew"
        raise DataError(msg) from e
    if voxels.ndim not in (3, 4):
        msg = f"{file} must be a volume of three axes, got shape {list(voxels.shape)}"
        raise DataError(msg)
    return voxels, affine
