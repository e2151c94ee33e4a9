"""BankEntry: what an index knows of one mask, so that it can be chosen without being read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import final

Triple = tuple[int, int, int]


@final
@dataclass(frozen=True, slots=True)
class BankEntry:
    """One mask of a bank, its axes towards right, front and head.

    Attributes:
        name: Its file, relative to the folder or archive of the bank, with forward slashes.
        bytes: Length of the file.
        modified: When the file was last changed, as its system tells it.
        sha256: Of the file.
        digest: What `VolumeSource.put` would call the mask, its ids as uint8.
        size: Voxels (x, y, z).
        spacing: mm per voxel.
        labels: Names of the labels in it, and their volumes in mm³.
        boxes: For each label the first voxel along x, y, z, and the ones behind the last.
        tumours: For each kind of tumour, the equivalent diameters of its regions in mm.
        region: First and last region of the body that it shows; `None` if that is not known.
    """

    name: str
    bytes: int
    modified: int
    sha256: str
    digest: str
    size: Triple
    spacing: tuple[float, float, float]
    labels: Mapping[str, float]
    boxes: Mapping[str, tuple[int, ...]]
    tumours: Mapping[str, tuple[float, ...]]
    region: tuple[str, str] | None

    @property
    def extent(self) -> tuple[float, float, float]:
        """The field of view in mm."""
        x, y, z = (n * mm for n, mm in zip(self.size, self.spacing, strict=True))
        return x, y, z

    def box_mm(self, label: str) -> tuple[tuple[float, float], ...]:
        """From where to where a label reaches along x, y, z, in mm from the middle of the mask."""
        box = self.boxes[label]
        return tuple(
            ((a - n / 2) * mm, (b - n / 2) * mm)
            for a, b, n, mm in zip(box[:3], box[3:], self.size, self.spacing, strict=True)
        )

    def values(self) -> dict[str, Any]:
        """The entry as JSON values."""
        # Not `asdict`, which copies each of half a million numbers: a minute for 4000 masks.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> BankEntry:
        """The entry that `values` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is none.
        """
        x, y, z = (int(n) for n in values["size"])
        dx, dy, dz = (float(mm) for mm in values["spacing"])
        region = values["region"]
        return cls(
            name=str(values["name"]),
            bytes=int(values["bytes"]),
            modified=int(values["modified"]),
            sha256=str(values["sha256"]),
            digest=str(values["digest"]),
            size=(x, y, z),
            spacing=(dx, dy, dz),
            labels=dict(values["labels"]),
            boxes={name: tuple(box) for name, box in values["boxes"].items()},
            tumours={name: tuple(sizes) for name, sizes in values["tumours"].items()},
            region=None if region is None else (str(region[0]), str(region[1])),
        )
