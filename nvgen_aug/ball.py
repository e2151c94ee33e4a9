"""Ball: the size of a lesion, as the diameter of the ball of its volume, in mm and in voxels."""

from __future__ import annotations

import math
from typing import Final

from .errors import SpecError

# Relative error of a volume that counts as reached.
TOLERANCE: Final = 0.1


def equivalent_diameter(volume_mm3: float) -> float:
    """Diameter in mm of the ball of this volume, (6 V / π)^⅓."""
    return float((6.0 * volume_mm3 / math.pi) ** (1.0 / 3.0))


def ball_volume(diameter: float) -> float:
    """Volume in mm³ of the ball of this diameter, π/6 d³."""
    return math.pi / 6.0 * diameter**3


def lesion_voxels(name: str, diameter: float, spacing: tuple[float, float, float]) -> int:
    """How many voxels a lesion has, with an error of at most a tenth of its volume.

    Args:
        name: What a message calls it.
        diameter: In mm.
        spacing: Voxel edges in mm.

    Raises:
        SpecError: if no whole number of voxels is near enough.
    """
    wanted = ball_volume(diameter)
    voxel = math.prod(spacing)
    count = round(wanted / voxel)
    if abs(count * voxel - wanted) > TOLERANCE * wanted:
        # From n + 1/2 voxels on, the nearest whole number is at most 1/2 / (n + 1/2) away.
        least = equivalent_diameter(0.5 / TOLERANCE * voxel)
        msg = (
            f"a `{name}` of {diameter:g} mm in a mask is too small for voxels of "
            f"{' x '.join(f'{mm:g}' for mm in spacing)} mm; the least is {least:.3g} mm"
        )
        raise SpecError(msg)
    return count
