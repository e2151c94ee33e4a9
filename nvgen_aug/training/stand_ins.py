"""Stand-ins: brains warped from one public MRI template, in place of subjects.

The ICBM152 2009a T1 template and its grey- and white-matter maps travel inside the nilearn wheel.
Every stand-in is a pure function of its split and index, so nothing needs to be stored. They are
not subjects: all of them share one anatomy, and they say so wherever they are used.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from typing import final

import nibabel
import numpy as np
from numpy.typing import NDArray

from ..generators.maisi.masks.warped_template import Anatomy
from ..generators.maisi.masks.warped_template import Grid
from ..generators.maisi.masks.warped_template import PlacedLesion
from ..generators.maisi.masks.warped_template import Template
from ..generators.maisi.masks.warped_template import draw_anatomy
from ..generators.maisi.masks.warped_template import smooth_noise

MODALITIES: Final = ("mri_t1_skull_stripped", "mri_t2_skull_stripped", "mri_flair_skull_stripped")
SPLITS: Final = {"train": 1, "held-out": 2, "demo": 3}

# Brightness of CSF, grey matter, white matter and lesion, in network units.
_CONTRASTS: Final = {
    "mri_t1_skull_stripped": (0.22, 0.52, 0.78, 0.40),
    "mri_t2_skull_stripped": (0.95, 0.58, 0.40, 0.85),
    "mri_flair_skull_stripped": (0.15, 0.58, 0.46, 0.95),
}


@final
@dataclass(frozen=True, slots=True)
class StandIn:
    """One image/mask pair.

    Attributes:
        image: `[X, Y, Z]` float32 in network units: 0 outside the brain, about 1 at its brightest.
        label: `[X, Y, Z]` uint8: 0 background, 1 CSF, 2 grey matter, 3 white matter, 4 lesion.
        affine: Voxel to RAS mm, `[4, 4]`.
        modality: Name of the contrast.
        seed: What it was made from: the split's number and the index.
        lesions: What was placed in the white matter.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    modality: str
    seed: tuple[int, int]
    lesions: tuple[PlacedLesion, ...]


@final
class StandIns:
    """An endless, random-access supply of stand-ins.

    Args:
        split: `train`, `held-out` or `demo`; no two splits share a seed.
        modality: One contrast, or `None` for one drawn with each stand-in.
        grid: Voxels to draw on.
        lesions: Whether to place 0 to 6 of them; `False` draws healthy brains.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        modality: str | None = None,
        grid: Grid | None = None,
        lesions: bool = True,
    ) -> None:
        if split not in SPLITS:
            msg = f"split must be one of {', '.join(SPLITS)}, got {split!r}"
            raise ValueError(msg)
        if modality is not None and modality not in _CONTRASTS:
            msg = f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}"
            raise ValueError(msg)
        self.split = split
        self.modality = modality
        self.grid = grid or Grid()
        self.lesions = lesions

    def make(self, index: int) -> StandIn:
        """Stand-in number `index`, the same every time."""
        rng, drawn, anatomy = self._anatomy(index)
        modality = self.modality or drawn
        return self._stand_in(index, anatomy, modality, rng)

    def matched(self, index: int) -> tuple[StandIn, ...]:
        """The brain of `make(index)` in each of `MODALITIES`, as scans of one subject are.

        They share the anatomy and nothing else: brightness, bias field and noise are drawn for
        each contrast anew, so that none can be copied from one to the next.
        """
        _, _, anatomy = self._anatomy(index)
        return tuple(
            self._stand_in(
                index,
                anatomy,
                modality,
                np.random.default_rng(np.random.SeedSequence((*self._seed(index), 1 + number))),
            )
            for number, modality in enumerate(MODALITIES)
        )

    def _seed(self, index: int) -> tuple[int, int]:
        return (SPLITS[self.split], index)

    def _anatomy(self, index: int) -> tuple[np.random.Generator, str, Anatomy]:
        """The brain of a number, the contrast drawn for it, and the chance that is left."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed(index)))
        drawn = MODALITIES[int(rng.integers(len(MODALITIES)))]
        diameters = draw_lesion_diameters(rng) if self.lesions else ()
        anatomy = draw_anatomy(icbm152(), self.grid, rng, lesion_diameters=diameters)
        return rng, drawn, anatomy

    def _stand_in(
        self, index: int, anatomy: Anatomy, modality: str, rng: np.random.Generator
    ) -> StandIn:
        return StandIn(
            image=_render(anatomy, modality, rng),
            label=anatomy.label,
            affine=self.grid.affine,
            modality=modality,
            seed=self._seed(index),
            lesions=anatomy.lesions,
        )


def draw_lesion_diameters(rng: np.random.Generator) -> tuple[float, ...]:
    """Diameters in mm of 0 to 6 lesions between 5 and 20 mm, small ones more often."""
    number = int(rng.integers(0, 7))
    return tuple(float(d) for d in 5.0 + 15.0 * rng.beta(1.2, 1.8, number))


@functools.cache
def icbm152() -> Template:
    """The template at 2 mm: CSF, grey matter, white matter, T1, cropped to the brain.

    Raises:
        ImportError: nilearn is not installed.
    """
    # Found, not imported: importing nilearn costs seconds and only its data is wanted.
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        msg = "stand-ins need the template inside nilearn; run `pip install 'nvgen_aug[demo]'`"
        raise ImportError(msg)
    folder = Path(package.origin).parent / "datasets" / "data"
    t1, grey, white = (_read_at_2_mm(folder, kind) for kind in ("t1", "gm", "wm"))
    brain = (t1 > 0.02).astype(np.float32)
    csf = np.clip(brain - grey - white, 0.0, 1.0)
    maps = np.stack([csf, grey, white, t1 / np.percentile(t1[brain > 0], 99.0)])
    occupied = np.argwhere(brain > 0)
    low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
    # One empty voxel all around, so that sampling fades to background at the border.
    low, high = low - 1, high + 1
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (1, 1)))
    box = tuple(slice(a + 1, b + 1) for a, b in zip(low, high, strict=True))
    return Template(maps=np.ascontiguousarray(padded[(slice(None), *box)]), spacing=2.0)


def _read_at_2_mm(folder: Path, kind: str) -> NDArray[np.float32]:
    image = nibabel.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
    data = np.asarray(image.dataobj, dtype=np.float32) / 255.0  # type: ignore[attr-defined]
    even = data[tuple(slice(0, n // 2 * 2) for n in data.shape)]
    x, y, z = (n // 2 for n in even.shape)
    blocks: NDArray[np.float32] = even.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))
    return blocks


def _render(anatomy: Anatomy, modality: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """An image of `anatomy`: tissue contrast, lesions, bias field, gain, gamma and noise."""
    csf, grey, white, t1 = (np.clip(m, 0.0, None) for m in anatomy.maps)
    brightness = np.asarray(_CONTRASTS[modality]) * rng.uniform(0.93, 1.07, 4)
    tissue = brightness[0] * csf + brightness[1] * grey + brightness[2] * white
    # What the template's T1 shows beyond three tissues: deep nuclei, partial volume, vessels.
    reference = _CONTRASTS["mri_t1_skull_stripped"]
    brain = np.clip(csf + grey + white, 0.0, 1.0)
    detail = brain * t1 - (reference[0] * csf + reference[1] * grey + reference[2] * white)
    sign = 1.0 if modality.startswith("mri_t1") else -0.35
    image = tissue + sign * detail
    image = image + anatomy.lesion * (brightness[3] - image)
    bias = np.exp(0.08 * smooth_noise(image.shape, 4, 1, rng)[0].numpy())
    image = np.clip(image * bias * rng.uniform(0.92, 1.04), 0.0, 1.4) ** rng.uniform(0.93, 1.07)
    image = image + rng.uniform(0.004, 0.012) * rng.standard_normal(image.shape)
    image = np.where(anatomy.label == 0, 0.0, image)
    return np.clip(image, 0.0, 1.4).astype(np.float32)
