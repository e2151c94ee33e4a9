"""Scan: a volume whose voxels compress as those of a CT do, made from the phantom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume

AIR, NOISE_HU = -1000, 12.0


def scan(edge: int, seed: int = 1) -> SyntheticVolume:
    """An image int16 `[1, X, Y, Z]` in HU with its label, by far not as smooth as a phantom.

    The phantom's body is widened to half the volume and gets 12 HU of noise that is correlated over
    about a voxel; around it is air without noise, as NV-Generate leaves it.

    Args:
        edge: Voxels along each axis.
        seed: Of the phantom and of the noise.
    """
    generator = PhantomGenerator()
    size = (edge, edge, edge)
    spec = VolumeSpec("phantom", seed=seed, size=size, pathology=(("lesion", 20.0),))
    volume = generator.generate(generator.card.resolve(spec)).volume
    assert volume.label is not None
    noise = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.6)
    noise *= NOISE_HU / noise.std()
    x, y, z = np.ogrid[-1 : 1 : 1j * edge, -1 : 1 : 1j * edge, -1 : 1 : 1j * edge]
    is_body = x**2 / 0.95 + y**2 / 0.95 + z**2 / 0.95 < 1
    values = np.where(is_body, volume.image[0] * 0.1 + noise, AIR)
    return replace(volume, image=values.astype(np.int16)[None])
