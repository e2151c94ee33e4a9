"""Warped template: label maps of brains that differ, made from one tissue atlas and a seed.

`Template` is the atlas: soft maps of CSF, grey and white matter at 2 mm. `draw_anatomy` warps it
(an affine map and a smooth diffeomorphism) and places lesions in its white matter. Everything is a
pure function of a `numpy.random.Generator`, and nothing but numpy and torch is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch.nn import functional

from ....errors import WeightsError

BACKGROUND, CSF, GREY_MATTER, WHITE_MATTER, LESION = range(5)

# The warp is composed on a coarse grid: its shortest wavelength is far longer than these cells.
_FIELD_CELLS = 24
_SQUARINGS = 5


@final
@dataclass(frozen=True, slots=True)
class Grid:
    """The voxels a brain is drawn on; the brain's centre is the grid's centre.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Voxel edge along x, y, z in mm.
    """

    size: tuple[int, int, int] = (64, 64, 64)
    spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel to RAS mm, `[4, 4]`, with the origin in the middle of the grid."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [-0.5 * (n - 1) * mm for n, mm in zip(self.size, self.spacing, strict=True)]
        return affine


@final
@dataclass(frozen=True, slots=True)
class Template:
    """Soft tissue maps of one brain.

    Attributes:
        maps: `[C, X, Y, Z]` float32 in 0..1; the first three channels are CSF, grey matter and
            white matter, further ones (an image, say) are warped along with them.
        spacing: Voxel edge in mm, the same along every axis.
        name: What provenance calls it.
    """

    maps: NDArray[np.float32]
    spacing: float
    name: str = ""

    @classmethod
    def load(cls, path: Path) -> Template:
        """The template stored in a safetensors file as uint8 maps `tissue` and `spacing`.

        Raises:
            WeightsError: The file is truncated, or holds something else.
        """
        try:
            stored = load_file(path)
            maps = stored["tissue"].astype(np.float32) / 255.0
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return cls(maps, float(stored["spacing"][0]), f"template {digest[:16]}")
        except (SafetensorError, OSError, KeyError) as error:
            msg = (
                f"the template at {path} cannot be read, it is truncated or damaged "
                f"({error}); fetch or install it again"
            )
            raise WeightsError(msg) from error


@final
@dataclass(frozen=True, slots=True)
class PlacedLesion:
    """Where a lesion was put: its nominal diameter in mm, centre in voxels, and voxel count."""

    diameter: float
    centre: tuple[float, float, float]
    voxels: int


@final
@dataclass(frozen=True, slots=True)
class Anatomy:
    """One warped brain.

    Attributes:
        maps: Warped template maps, `[C, X, Y, Z]` float32.
        lesion: Soft lesion occupancy, `[X, Y, Z]` float32 in 0..1.
        label: `[X, Y, Z]` uint8: 0 background, 1 CSF, 2 grey matter, 3 white matter, 4 lesion.
        lesions: What was placed, in the order asked for.
    """

    maps: NDArray[np.float32]
    lesion: NDArray[np.float32]
    label: NDArray[np.uint8]
    lesions: tuple[PlacedLesion, ...]


def draw_anatomy(
    template: Template,
    grid: Grid,
    rng: np.random.Generator,
    *,
    lesion_diameters: Sequence[float] = (),
) -> Anatomy:
    """A warped copy of `template` on `grid`, with one lesion for each diameter.

    Args:
        template: The atlas.
        grid: Where to draw.
        rng: All chance there is.
        lesion_diameters: Diameters in mm. A lesion keeps to white matter, so it may come out
            smaller than asked where there is little of it.
    """
    maps = _warp(template, grid, rng)
    csf, grey, white = (np.clip(maps[i], 0.0, 1.0) for i in range(3))
    outside = np.clip(1.0 - csf - grey - white, 0.0, 1.0)
    label = np.argmax(np.stack([outside, csf, grey, white]), axis=0).astype(np.uint8)
    lesion = np.zeros(grid.size, np.float32)
    placed = []
    for diameter in lesion_diameters:
        occupancy, centre = _draw_lesion(white, lesion, grid, diameter, rng)
        placed.append(PlacedLesion(float(diameter), centre, int((occupancy > 0.5).sum())))
        lesion = np.maximum(lesion, occupancy)
    label[lesion > 0.5] = LESION
    return Anatomy(maps=maps, lesion=lesion, label=label, lesions=tuple(placed))


def smooth_noise(
    shape: Sequence[int], cells: int, channels: int, rng: np.random.Generator
) -> torch.Tensor:
    """Unit-variance noise without detail finer than 1/`cells` of the edge, `[C, X, Y, Z]`."""
    coarse = torch.from_numpy(rng.standard_normal((1, channels, cells, cells, cells)))
    fine = functional.interpolate(
        coarse.float(), size=tuple(shape), mode="trilinear", align_corners=True
    )[0]
    return fine / fine.std()


def _warp(template: Template, grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    axes = [
        (torch.arange(n, dtype=torch.float32) - 0.5 * (n - 1)) * mm
        for n, mm in zip(grid.size, grid.spacing, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # [3, X, Y, Z] mm from the centre
    half_extent = torch.tensor(
        [0.5 * n * mm for n, mm in zip(grid.size, grid.spacing, strict=True)]
    )
    points = points + _displacement(grid, half_extent, rng)
    matrix, shift = _draw_affine(rng)
    points = torch.einsum("ij,jxyz->ixyz", matrix, points) + shift[:, None, None, None]
    half_template = 0.5 * template.spacing * torch.tensor(template.maps.shape[1:])
    maps = torch.from_numpy(template.maps)
    warped = _sample(maps, points, half_template)
    off_centre = _way_to_middle(warped, grid)
    if off_centre is not None:
        # The warp carried the brain to the border: move it back whole, rather than cut it off.
        points = points + (matrix @ off_centre)[:, None, None, None]
        warped = _sample(maps, points, half_template)
    result: NDArray[np.float32] = warped.numpy()
    return result


def _way_to_middle(warped: torch.Tensor, grid: Grid) -> torch.Tensor | None:
    """From the grid's middle to that of a brain that touches the border, in mm, else `None`."""
    brain = warped[:3].sum(dim=0) > 0.5
    way = torch.zeros(3)
    touches = False
    for axis, (n, mm) in enumerate(zip(grid.size, grid.spacing, strict=True)):
        others = [a for a in range(3) if a != axis]
        inside = brain.amax(dim=others).nonzero()
        if inside.numel() == 0:
            return None
        low, high = int(inside[0]), n - 1 - int(inside[-1])
        if min(low, high) == 0:
            touches = True
            way[axis] = 0.5 * (low - high) * mm
    return way if touches else None


def _draw_affine(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The map from drawn brain to template: a rotation of a few degrees, sizes 0.89 to 0.98."""
    size = rng.uniform(0.90, 0.97) * rng.uniform(0.985, 1.015, 3)
    angles = np.deg2rad(rng.normal(0.0, 4.0, 3).clip(-8.0, 8.0))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    shear = np.eye(3) + np.triu(rng.normal(0.0, 0.015, (3, 3)), 1)
    matrix = np.diag(1.0 / size) @ shear @ rotation
    shift = rng.uniform(-2.0, 2.0, 3)
    return torch.from_numpy(matrix).float(), torch.from_numpy(shift).float()


def _displacement(grid: Grid, half_extent: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Displacement in mm, `[3, X, Y, Z]`, of the flow of a random smooth velocity field.

    Scaling and squaring (Arsigny et al., 2006) of a velocity at two scales.
    """
    cells = (_FIELD_CELLS,) * 3
    broad = 3.5 * smooth_noise(cells, 5, 3, rng)
    fine = 1.6 * smooth_noise(cells, 9, 3, rng)
    field = (broad + fine) / 2**_SQUARINGS
    axes = [
        torch.linspace(-1.0, 1.0, _FIELD_CELLS) * (1 - 1 / _FIELD_CELLS) * half
        for half in half_extent
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for _ in range(_SQUARINGS):
        field = field + _sample(field, points + field, half_extent, padding="border")
    return functional.interpolate(
        field[None], size=grid.size, mode="trilinear", align_corners=False
    )[0]


def _sample(
    maps: torch.Tensor, points: torch.Tensor, half_extent: torch.Tensor, padding: str = "zeros"
) -> torch.Tensor:
    """Linear interpolation of `maps` at `points` (mm from the centre of the maps)."""
    unit = points / half_extent[:, None, None, None]
    locations = unit.flip(0).permute(1, 2, 3, 0)[None]  # grid_sample wants z, y, x last
    return functional.grid_sample(
        maps[None], locations, mode="bilinear", padding_mode=padding, align_corners=False
    )[0]


def _draw_lesion(
    white: NDArray[np.float32],
    taken: NDArray[np.float32],
    grid: Grid,
    diameter: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Soft occupancy of one irregular ellipsoid in white matter, and its centre in voxels."""
    home = np.flatnonzero((white > 0.8) & (taken < 0.1))
    if home.size == 0:
        return np.zeros_like(white), (0.0, 0.0, 0.0)
    # The deepest of a few candidates: lesions then have white matter around them to grow in.
    candidates = np.stack(np.unravel_index(rng.choice(home, 8), white.shape), axis=1)
    reach = max(1, round(0.5 * diameter / min(grid.spacing)))
    depth = [
        white[tuple(slice(max(c - reach, 0), c + reach + 1) for c in candidate)].mean()
        for candidate in candidates
    ]
    centre = candidates[int(np.argmax(depth))] + rng.uniform(-0.5, 0.5, 3)
    stretch = np.exp(rng.normal(0.0, 0.15, 3))
    stretch /= np.prod(stretch) ** (1 / 3)
    radii = 0.5 * diameter * stretch / np.asarray(grid.spacing)
    bumps = smooth_noise((9, 9, 9), 4, 1, rng)[0].numpy()
    # A box around the lesion, not the volume, is all that has to be computed.
    low = [int(np.floor(c - 2 * r - 1)) for c, r in zip(centre, radii, strict=True)]
    high = [int(np.ceil(c + 2 * r + 2)) for c, r in zip(centre, radii, strict=True)]
    low = [max(v, 0) for v in low]
    high = [min(v, n) for v, n in zip(high, white.shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = [(np.arange(a, b) - c) / r for a, b, c, r in zip(low, high, centre, radii, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2)
    nodes = [np.clip(np.rint((a + 2) * 2), 0, 8).astype(int) for a in (x, y, z)]
    rim = 1.0 + 0.12 * bumps[nodes[0], nodes[1], nodes[2]]
    softness = 0.5 / radii.mean()  # half a voxel
    occupancy = 1.0 / (1.0 + np.exp(np.clip((distance - rim) / (0.5 * softness), -30, 30)))
    inside = np.clip((white[box] - 0.2) / 0.4, 0.0, 1.0)
    result = np.zeros_like(white)
    result[box] = (occupancy * inside).astype(np.float32)
    if result.max() <= 0.5:
        # Smaller than a voxel and between voxels: at least one, so that what is asked is there.
        result[tuple(candidates[int(np.argmax(depth))])] = 1.0
    return result, (float(centre[0]), float(centre[1]), float(centre[2]))
