"""Streams: the kinds of chance in a volume, each drawn apart, so that one can stay as it is."""

from __future__ import annotations

import numpy as np

# Numbers are part of what a seed means: a new kind takes the next one.
ANATOMY, NOISE, LINK, AUGMENTATION, INSERTION = 1, 2, 3, 4, 5
MASK_SIZES, MASK_NOISE, MASK_LINK = 6, 7, 8
BANK, RETRY = 9, 10


def stream(seed: int, kind: int) -> int:
    """The seed of one kind of chance in a volume."""
    state = np.random.SeedSequence([seed, kind]).generate_state(1, np.uint64)
    return int(state[0] % np.uint64(2**63))


def chance(seed: int, kind: int) -> np.random.Generator:
    """The generator of one kind of chance in a volume."""
    return np.random.default_rng(np.random.SeedSequence([seed, kind]))
