"""Phantom volumes, latents and keys for the tests of the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Generated

Make = Callable[..., tuple[str, Generated]]


@pytest.fixture(scope="session")
def make() -> Make:
    """Makes phantoms: `make(seed, size=…)` gives the volume key and what was generated."""
    generator = PhantomGenerator()
    made: dict[VolumeSpec, Generated] = {}

    def generate(seed: int = 1, size: tuple[int, int, int] = (24, 20, 16)) -> tuple[str, Generated]:
        spec = generator.card.resolve(
            VolumeSpec("phantom", seed=seed, size=size, pathology=(("lesion", 8.0),))
        )
        if spec not in made:
            made[spec] = generator.generate(spec)
        return generator.card.volume_key(spec), made[spec]

    return generate


@pytest.fixture
def cache(tmp_path: Path) -> VolumeCache:
    """An empty cache that may hold 100 MB."""
    return VolumeCache(tmp_path / "cache", max_bytes="100 MB")
