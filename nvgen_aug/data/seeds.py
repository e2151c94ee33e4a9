"""Seeds: integers that chance begins with, derived from words."""

from __future__ import annotations

import hashlib


def derived_seed(*words: int | str) -> int:
    """A seed of 63 bits from integers and texts; other words, other seed."""
    digest = hashlib.blake2b(repr(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def volume_seed_of(seed: int, volume: int, stratum: str = "") -> int:
    """What volume number `volume` of a synthetic dataset, or of a stratum of it, is drawn from."""
    return derived_seed("volume", seed, volume, *((stratum,) if stratum else ()))
