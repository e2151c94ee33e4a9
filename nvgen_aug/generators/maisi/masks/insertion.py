"""Insertion: a tumour of a wanted size, drawn into a mask that has none there.

The shape is an ellipsoid whose surface is bent by smooth noise. It is grown rather than pasted:
of the voxels of the host organ that touch the tumour, the one that is nearest to the centre by this
bent distance becomes tumour, until the wanted volume is reached. So a tumour is in one piece, never
leaves its organ, bends along its surface where it touches it, and has its size to the voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop
from heapq import heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ....ball import lesion_voxels
from ....errors import SpecError
from ....errors import did_you_mean
from .hosts import CT_HOSTS
from .hosts import Host

# Longest over shortest axis of the ellipsoid, and how far noise bends its surface, as a share.
_ELONGATION: Final = 1.5
_BEND: Final = 0.25
# A centre lies at least this share of the radius below the organ's surface, and the farthest voxel
# at most this many radii from it: beyond, the organ is too thin there and the tumour creeps.
_DEPTH: Final = 0.4
_REACH: Final = 2.0
_TRIES: Final = 20


def insert_tumour(
    label: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    name: str,
    diameter: float,
    rng: np.random.Generator,
    hosts: Mapping[str, Host] = CT_HOSTS,
) -> NDArray[np.uint8]:
    """A copy of a label map with one more tumour in it.

    Args:
        label: `[X, Y, Z]` uint8.
        spacing: Voxel edges in mm.
        name: Which tumour, a name of `hosts`.
        diameter: In mm, of the ball with the wanted volume.
        rng: All chance there is.
        hosts: Where each tumour grows; it stays apart from others of its kind.

    Raises:
        SpecError: for an unknown tumour, a mask without its host organ, a size below what the
            voxels can show, and one that the organ has no room for; with what there is room for.
    """
    if name not in hosts:
        msg = f"no tumour called `{name}` can be inserted; {did_you_mean(name, hosts)}"
        raise SpecError(msg)
    host = hosts[name]
    count = lesion_voxels(name, diameter, spacing)
    organ = np.isin(label, list(host.organs))
    if not organ.any():
        msg = f"the mask has no {host.name}, so no `{name}` can be inserted; choose another mask"
        raise SpecError(msg)
    # Organs are small: what is worked out in their box costs a fraction of the volume.
    box = ndimage.find_objects(organ.view(np.uint8))[0]
    # What touched another tumour of the kind would be one tumour with it, of another size.
    others = ndimage.binary_dilation(label[box] == host.tumour, np.ones((3, 3, 3), bool))
    organ = organ[box] & ~others
    if not organ.any():
        msg = f"the {host.name} of the mask are full of `{name}`; ask for fewer or smaller ones"
        raise SpecError(msg)
    depth = _depth(organ, spacing)
    centres = np.argwhere(depth >= min(_DEPTH * diameter / 2, float(depth.max())))
    for _ in range(_TRIES):
        centre = tuple(int(i) for i in centres[rng.integers(len(centres))])
        grown = _grow(organ, spacing, centre, diameter, count, rng)
        if grown is not None:
            result = label.copy()
            result[box][grown] = host.tumour
            return result
    most = 2 * float(depth.max())
    msg = (
        f"a `{name}` of {diameter:g} mm finds no place in the {host.name} of this mask, where the "
        f"largest ball that fits has {most:.3g} mm; ask for a smaller one, or choose another mask"
    )
    raise SpecError(msg)


def _depth(organ: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """How far each voxel of the organ lies below its surface, in mm."""
    # The border of the mask is no surface of the body: padded, an organ ends there all the same.
    inside = ndimage.distance_transform_edt(np.pad(organ, 1), sampling=spacing)
    depth: NDArray[np.float64] = inside[1:-1, 1:-1, 1:-1]
    return depth


def _grow(
    organ: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    centre: tuple[int, ...],
    diameter: float,
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], ...] | None:
    """Indices of the `count` voxels that become tumour, or `None` if it would creep too far."""
    radius = diameter / 2
    reach = _REACH * radius
    low = [max(0, c - int(reach / mm) - 1) for c, mm in zip(centre, spacing, strict=True)]
    high = [
        min(n, c + int(reach / mm) + 2)
        for c, mm, n in zip(centre, spacing, organ.shape, strict=True)
    ]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    place = organ[box]
    offsets = np.stack(
        np.meshgrid(
            *[
                (np.arange(a, b) - c) * mm
                for a, b, c, mm in zip(low, high, centre, spacing, strict=True)
            ],
            indexing="ij",
        ),
        axis=-1,
    )
    distance = _bent_distance(offsets, radius, spacing, rng)
    distance[~place] = np.inf
    distance[np.linalg.norm(offsets, axis=-1) > reach] = np.inf
    inside = tuple(c - a for c, a in zip(centre, low, strict=True))
    found = _nearest_in_one_piece(distance, inside, count)
    if found is None:
        return None
    places = np.unravel_index(found, place.shape)
    return tuple(axis + a for axis, a in zip(places, low, strict=True))


def _nearest_in_one_piece(
    distance: NDArray[np.float64], start: tuple[int, ...], count: int
) -> NDArray[np.intp] | None:
    """Flat indices of `count` voxels, each the nearest that touches those before it.

    Not simply the nearest of all: a vessel may lie in between, and then they are in pieces.
    """
    # A border of infinity, so that no neighbour lies on the other side of the box.
    padded = np.pad(distance, 1, constant_values=np.inf)
    flat = padded.ravel().tolist()
    steps = [stride // padded.itemsize for stride in padded.strides]
    neighbours = [sign * step for step in steps for sign in (-1, 1)]
    first = int(np.ravel_multi_index(tuple(i + 1 for i in start), padded.shape))
    edge = [(flat[first], first)]
    seen = {first}
    found: list[int] = []
    while edge and len(found) < count:
        _, place = heappop(edge)
        found.append(place)
        for step in neighbours:
            other = place + step
            if other not in seen and flat[other] < np.inf:
                seen.add(other)
                heappush(edge, (flat[other], other))
    if len(found) < count:
        return None
    inner = [axis - 1 for axis in np.unravel_index(np.asarray(found), padded.shape)]
    return np.ravel_multi_index(tuple(inner), distance.shape)


def _bent_distance(
    offsets: NDArray[np.float64],
    radius: float,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Distance from the centre in a turned ellipsoid's measure, times smooth noise around 1."""
    stretch = np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(_ELONGATION))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    distance = np.linalg.norm((offsets @ turn) / stretch, axis=-1)
    noise = rng.standard_normal(offsets.shape[:3])
    noise = ndimage.gaussian_filter(noise, [0.4 * radius / mm for mm in spacing], mode="reflect")
    spread = noise.std()
    bent: NDArray[np.float64] = distance * (1 + _BEND * noise / spread) if spread > 0 else distance
    return bent
