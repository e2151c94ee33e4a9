"""Cache: latents, decoded volumes and uploaded arrays on disk, whole or absent."""

from __future__ import annotations

from .cached_source import CachedSource
from .eviction import CacheStats
from .eviction import KindStats
from .upkeep import Checked
from .upkeep import Collected
from .upkeep import Upkeep
from .volume_cache import VolumeCache

__all__ = [
    "CacheStats",
    "CachedSource",
    "Checked",
    "Collected",
    "KindStats",
    "Upkeep",
    "VolumeCache",
]
