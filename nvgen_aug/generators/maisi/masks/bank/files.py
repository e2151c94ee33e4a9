"""MaskFiles: the NIfTI files of a bank, in a folder or in a zip archive that stays packed."""

from __future__ import annotations

import gzip
import hashlib
import stat
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from pathlib import PurePosixPath
from pathlib import PureWindowsPath
from typing import Any
from typing import Final
from typing import final

import nibabel as nib
import numpy as np

from .....errors import DataError
from .....errors import SpecError
from .....volume import Blob
from ..given_mask import as_labels
from ..given_mask import upright

ENDINGS: Final = (".nii", ".nii.gz")
# A volume of 512 x 512 x 768 voxels of eight bytes, and then some.
MAX_BYTES: Final = 2 << 30
_READ: Final = 16 << 20
# What a file that is torn, or is something else, may raise on its way.
_BROKEN: Final = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)


@final
@dataclass(frozen=True, slots=True)
class MaskFile:
    """One file, as it is found: its name, length and time of change."""

    name: str
    bytes: int
    modified: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class ReadMask:
    """A mask with the SHA-256 of its file."""

    blob: Blob
    sha256: str


@final
class MaskFiles:
    """Where the masks of a bank lie.

    An archive is read where it is: nothing is written to the disk, so that no name in it can lead
    anywhere; one whose names try to is refused all the same.

    Args:
        place: A folder, or a zip archive.

    Raises:
        DataError: There is nothing, or it is an archive that should not be trusted.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._archive: zipfile.ZipFile | None = None
        if place.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(place)
        except (OSError, zipfile.BadZipFile) as error:
            msg = f"masks must lie in a folder or a zip archive, and {place} is none: {error}"
            raise DataError(msg) from error
        for member in self._archive.infolist():
            _check_member(member, place)

    def close(self) -> None:
        """Let go of the archive."""
        if self._archive is not None:
            self._archive.close()

    def find(self) -> list[MaskFile]:
        """All masks, by name."""
        if self._archive is not None:
            found = [
                MaskFile(_plain(member.filename), member.file_size, member.CRC)
                for member in self._archive.infolist()
                if member.filename.endswith(ENDINGS)
            ]
        else:
            found = [
                self._on_disk(path)
                for path in self.place.rglob("*")
                if path.name.endswith(ENDINGS) and not path.name.startswith(".") and path.is_file()
            ]
        return sorted(found, key=lambda file: file.name)

    def read(self, name: str) -> ReadMask:
        """One mask with its axes towards right, front and head, and ids as uint8.

        Raises:
            DataError: It is not there, is no NIfTI file, or holds what no mask holds.
        """
        content = self._bytes(name)
        try:
            picture: Any = _image(content, is_packed=name.endswith(".gz"))
            voxels = np.asarray(picture.dataobj)
            if voxels.ndim == 4 and voxels.shape[3] == 1:
                voxels = voxels[..., 0]
            label, affine = upright(as_labels(voxels), np.asarray(picture.affine, np.float64))
        except SpecError as error:
            msg = f"`{name}`: {error}"
            raise DataError(msg) from error
        except _BROKEN as error:
            msg = f"`{name}` cannot be read as NIfTI: {error}; leave it out, or write it again"
            raise DataError(msg) from error
        return ReadMask(Blob(label, affine), hashlib.sha256(content).hexdigest())

    def _on_disk(self, path: Path) -> MaskFile:
        seen = path.stat()
        return MaskFile(
            path.relative_to(self.place).as_posix(), seen.st_size, int(seen.st_mtime_ns)
        )

    def _bytes(self, name: str) -> bytes:
        try:
            if self._archive is None:
                return (self.place / name).read_bytes()
            with self._archive.open(self._member(name)) as file:
                # What the directory of an archive says of a length need not be true.
                return _all_of(file, MAX_BYTES, name)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            msg = f"`{name}` cannot be read in {self.place}: {error}; index the masks again"
            raise DataError(msg) from error

    def _member(self, name: str) -> zipfile.ZipInfo:
        assert self._archive is not None
        try:
            return self._archive.getinfo(name)
        except KeyError:
            return self._archive.getinfo(f"./{name}")


def _check_member(member: zipfile.ZipInfo, place: Path) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    why = ""
    if path.is_absolute() or PureWindowsPath(member.filename).drive:
        why = "has an absolute path"
    elif ".." in path.parts:
        why = "leads out of the archive"
    elif stat.S_ISLNK(member.external_attr >> 16):
        why = "is a link"
    elif member.flag_bits & 1:
        why = "is encrypted"
    elif member.file_size > MAX_BYTES:
        why = f"has {member.file_size} bytes, more than the {MAX_BYTES} allowed"
    if why:
        msg = f"`{member.filename}` in {place} {why}; make the archive again from masks alone"
        raise DataError(msg)


def _plain(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _all_of(file: Any, most: int, name: str) -> bytes:
    parts, total = [], 0
    while part := file.read(_READ):
        total += len(part)
        if total > most:
            msg = f"`{name}` unpacks to more than the {most} bytes allowed; leave it out"
            raise DataError(msg)
        parts.append(part)
    return b"".join(parts)


def _image(content: bytes, *, is_packed: bool) -> Any:
    if is_packed:
        with gzip.GzipFile(fileobj=BytesIO(content)) as file:
            content = _all_of(file, MAX_BYTES, "the file")
    is_second = content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # 540: NIfTI-2
    kind: Any = nib.Nifti2Image if is_second else nib.Nifti1Image
    return kind.from_bytes(content)
