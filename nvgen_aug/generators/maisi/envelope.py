"""Envelope tables: what the released members of the family were trained on.

Sizes and spacings are those that NV-Generate accepts, rows the medians that it publishes. The
factor of two around a row is ours: it lets every published example through and keeps out what
upstream calls noise, such as a body in a cube of 128 mm.
"""

from __future__ import annotations

from typing import Final

from ...envelope import Envelope
from ...envelope import FieldOfView
from .vocabulary import STRIPPED

# Voxels and mm of the median scan.
_CT: Final = (
    ("chest+abdomen", (512, 512, 128), (0.781, 0.781, 2.981)),
    ("chest", (512, 512, 128), (0.684, 0.684, 2.422)),
    ("chest+abdomen+lower", (512, 512, 256), (0.793, 0.793, 1.826)),
    ("lower", (512, 512, 384), (0.839, 0.839, 0.728)),
    ("abdomen+lower", (512, 512, 384), (0.808, 0.808, 0.729)),
    ("head+chest+abdomen", (512, 512, 384), (0.977, 0.977, 2.103)),
    ("abdomen", (512, 512, 128), (0.723, 0.723, 1.182)),
    ("head+chest+abdomen+lower", (512, 512, 384), (1.367, 1.367, 4.603)),
    ("head+chest", (512, 512, 128), (0.645, 0.645, 2.219)),
)

_MR: Final = (
    ("brain T1", "mri_t1", (160, 256, 256)),
    ("brain T2", "mri_t2", (240, 240, 162.5)),
    ("brain FLAIR", "mri_flair", (199.9, 250, 250)),
    ("prostate T2", "mri_t2", (170, 170, 90)),
    ("breast T1", "mri_t1", (174, 200, 200)),
    ("abdomen T1", "mri_t1", (380, 308.8, 288)),
    ("abdomen T2", "mri_t2", (350, 350, 245.6)),
)

# Axial, sagittal, coronal.
_BRAIN: Final = (
    ("mri_t1", ((240, 240, 174), (176, 250, 250), (240, 200, 240))),
    ("mri_t2", ((240, 240, 158), (162, 240, 240), (200, 180, 200))),
    ("mri_flair", ((250, 250, 175), (176, 250, 250), (250, 200, 250))),
    ("mri_swi", ((230, 230, 145), (140, 230, 230), (230, 155, 230))),
    ("mri_mra", ((220, 220, 158), (158, 250, 250), (240, 179, 240))),
)

_MR_SIZES: Final = (
    (128, 128, 128),
    (256, 256, 128),
    (384, 384, 128),
    (512, 512, 128),
    (128, 256, 256),
    (256, 128, 256),
    (256, 256, 256),
)
_MR_SPACINGS: Final = ((0.4, 5.0), (0.4, 5.0), (0.4, 5.0))

CT_ENVELOPE: Final = Envelope(
    sizes=tuple((xy, xy, z) for xy in (256, 384, 512) for z in (128, 256, 384, 512, 640, 768)),
    spacings=((0.5, 3.0), (0.5, 3.0), (0.5, 5.0)),
    rows=tuple(
        FieldOfView(name, (x * dx, y * dy, z * dz)) for name, (x, y, z), (dx, dy, dz) in _CT
    ),
    least_width=256.0,
    is_square=True,
)

MR_ENVELOPE: Final = Envelope(
    sizes=_MR_SIZES,
    spacings=_MR_SPACINGS,
    # 8 says "MR" and no more, so that any row will do.
    rows=tuple(FieldOfView(name, extent, (contrast, "mri")) for name, contrast, extent in _MR),
)

BRAIN_ENVELOPE: Final = Envelope(
    # The greatest volume that is published for this member is missing from upstream's check.
    sizes=(*_MR_SIZES, (512, 512, 256)),
    spacings=_MR_SPACINGS,
    rows=tuple(
        FieldOfView(
            f"{contrast.removeprefix('mri_').upper()} {plane}",
            extent,
            (contrast, f"{contrast}{STRIPPED}", "mri"),
        )
        for contrast, extents in _BRAIN
        for plane, extent in zip(("axial", "sagittal", "coronal"), extents, strict=True)
    ),
)
