"""Healthy: a mask without its tumours, which guidance steers an image away from.

As NV-Generate takes them out: each becomes its organ, that of the lung the lobe that most of the
voxels around it belong to. A bone lesion stays, since nothing says which bone it was.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .hosts import LUNG_LOBES

_LUNG_TUMOUR: Final = 23
# Tumours of liver, pancreas and colon, and cysts of the left and the right kidney.
_ORGANS: Final = {26: 1, 24: 4, 27: 62, 116: 14, 117: 5}
_CUBE: Final = np.ones((3, 3, 3), bool)


def without_tumours(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of a label map of the CT vocabulary, `[X, Y, Z]`, without tumours."""
    table = np.arange(256, dtype=np.uint8)
    for tumour, organ in _ORGANS.items():
        table[tumour] = organ
    healthy: NDArray[np.uint8] = table[label]
    tumour = label == _LUNG_TUMOUR
    if tumour.any():
        ring = label[ndimage.binary_dilation(tumour, _CUBE) & ~tumour]
        lobes = ring[np.isin(ring, LUNG_LOBES)]
        # Without a lobe around it the tumour cannot be said to lie in one.
        healthy[tumour] = np.bincount(lobes).argmax() if lobes.size else _LUNG_TUMOUR
    return healthy
