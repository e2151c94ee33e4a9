"""Arrays: how voxels, latents and statistics are laid out in Zarr v3, and written."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal
from typing import final

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.codecs import Crc32cCodec
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 64
SHARD = 256

_PIPELINE = (
    "zarrs.ZarrsCodecPipeline"
    if importlib.util.find_spec("zarrs") is not None
    else "zarr.core.codec_pipeline.BatchedCodecPipeline"
)
# One for each process: a lock that another thread held during a fork is never released.
_LOCKS: dict[int, threading.Lock] = {}


@final
@dataclass(frozen=True, slots=True, eq=False)
class StoredArray:
    """An array and the way it is stored.

    Args:
        array: The values.
        how: `"image"` for blosc lz4, `"label"` for zstd, both in chunks of 64³;
            `"whole"` for one raw chunk. Each chunk has a checksum.
    """

    array: NDArray[np.generic]
    how: Literal["image", "label", "whole"]


def write_group(
    path: Path, attributes: Mapping[str, Any], arrays: Mapping[str, StoredArray]
) -> None:
    """Write a Zarr v3 group with these arrays into a new directory."""
    store = LocalStore(path)
    with _configured():
        group = zarr.create_group(store, attributes=dict(attributes), zarr_format=3)
        opened = [(_create(group, name, stored), stored) for name, stored in arrays.items()]
    for target, stored in opened:
        target[...] = np.ascontiguousarray(stored.array)


def chunking(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunk and shard of an array whose last three axes are x, y, z.

    A chunk is 64³, clipped to the volume. A shard is the whole volume up to
    256³; where one chunk holds the volume a shard would only add an index.
    """
    grid = [min(CHUNK, extent) for extent in shape[-3:]]
    lead = (1,) * (len(shape) - 3)
    most = [SHARD // CHUNK if edge == CHUNK else 1 for edge in grid]
    chunks = [
        min(limit, -(-extent // edge))
        for extent, edge, limit in zip(shape[-3:], grid, most, strict=True)
    ]
    if max(chunks) == 1:
        return (*lead, *grid), None
    shard = [count * edge for count, edge in zip(chunks, grid, strict=True)]
    return (*lead, *grid), (*lead, *shard)


def _create(group: zarr.Group, name: str, stored: StoredArray) -> zarr.Array[Any]:
    array = stored.array
    chunks: tuple[int, ...] = tuple(max(1, extent) for extent in array.shape)
    shards: tuple[int, ...] | None = None
    compressors: list[Any] = [Crc32cCodec()]
    if stored.how == "image":
        compressors.insert(0, BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"))
    elif stored.how == "label":
        compressors.insert(0, ZstdCodec(level=1))
    if stored.how != "whole":
        chunks, shards = chunking(array.shape)
    return group.create_array(
        name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks,
        shards=shards,
        compressors=compressors,
        filters=None,
    )


@contextmanager
def _configured() -> Iterator[None]:
    """Zarr's settings while an array is made, which is when they are read.

    zarrs gets one thread: more would outlive the write and not survive a fork.
    """
    # Settings are global to the process: without a lock, two threads that set
    # and restore them would leave the user's zarr with ours.
    with (
        _LOCKS.setdefault(os.getpid(), threading.Lock()),
        zarr.config.set({"codec_pipeline.path": _PIPELINE, "threading.max_workers": 1}),
    ):
        yield
