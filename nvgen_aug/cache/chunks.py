"""Chunks: boxes of a stored array, decoded chunk by chunk, each compared with its checksum.

Zarr's own readers can do that, too. For a part of a shard they take twice the time, and zarrs
does not look at the checksum then.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import google_crc32c
import numpy as np
from numcodecs import blosc
from numcodecs import zstd

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOWHERE = 2**64 - 1  # offset of a chunk that was not written: all zeros
_CHECKSUM_BYTES = 4
# CRC-32C of any bytes with their own CRC-32C, least byte first, behind them.
_RESIDUE = 0x48674BC7
_INDEX_CODECS = ["bytes", "crc32c"]

_Place = tuple[int, ...]
_Decoder = Callable[[memoryview, "NDArray[np.uint8]"], "NDArray[np.uint8]"]


@final
class Chunks:
    """The chunks of one array, laid out as `arrays` writes them.

    It holds no open files. Indices of shards are kept once they were read, so a shard
    must be the same file for as long as this is used.

    Args:
        directory: Of the array.
        metadata: Its `zarr.json`, parsed.
        files: The array's chunk files, by their path in the directory; what is not among
            them was not written, and is zeros.

    Raises:
        ValueError, KeyError, TypeError: if the layout is none that `arrays` writes.
    """

    __slots__ = (
        "_chunk",
        "_decode",
        "_directory",
        "_dtype",
        "_files",
        "_indices",
        "_is_sharded",
        "_shard",
        "has_checksums",
        "shape",
    )

    def __init__(self, directory: Path, metadata: Mapping[str, Any], files: frozenset[str]) -> None:
        self._directory = os.fspath(directory)
        self._files = files
        self._indices: dict[_Place, NDArray[np.uint64]] = {}
        self.shape = tuple(int(extent) for extent in metadata["shape"])
        chunk = _edges(metadata["chunk_grid"]["configuration"], len(self.shape))
        codecs = metadata["codecs"]
        self._is_sharded = _names(codecs) == ["sharding_indexed"]
        self._shard = (1,) * len(chunk)  # chunks of a file, along each axis
        if self._is_sharded:
            settings = codecs[0]["configuration"]
            inner = _edges(settings, len(self.shape))
            self._shard = tuple(outer // edge for outer, edge in zip(chunk, inner, strict=True))
            if _names(settings["index_codecs"]) != _INDEX_CODECS:
                msg = f"an index of a shard is stored as {_names(settings['index_codecs'])}"
                raise ValueError(msg)
            if settings.get("index_location", "end") != "end":
                msg = "the index of a shard is not at its end"
                raise ValueError(msg)
            chunk, codecs = inner, settings["codecs"]
        self._chunk = chunk
        names = _names(codecs)
        self.has_checksums = names[-1:] == ["crc32c"]
        self._decode = _decoder(names[: len(names) - self.has_checksums])
        encoding = metadata["chunk_key_encoding"]
        fill = metadata["fill_value"]
        if encoding != {"name": "default", "configuration": {"separator": "/"}} or fill:
            msg = f"chunks are named by {encoding}, and those that are not there are {fill}"
            raise ValueError(msg)
        self._dtype = np.dtype(str(metadata["data_type"])).newbyteorder("<")

    def read(self, box: Sequence[slice] = ()) -> NDArray[Any]:
        """The values of a box of the last axes, in an array of the caller's own.

        Args:
            box: Begin and end along each of the last axes, inside the array; axes before
                them are read whole.

        Raises:
            OSError: if a file cannot be read.
            ValueError, RuntimeError: if what it holds is not what was written.
        """
        whole = [(0, extent) for extent in self.shape[: len(self.shape) - len(box)]]
        bounds = [*whole, *((part.start, part.stop) for part in box)]
        values = np.empty([high - low for low, high in bounds], self._dtype)
        buffer = np.empty(math.prod(self._chunk) * self._dtype.itemsize, np.uint8)
        edges = self._chunk
        ranges = (
            range(low // edge, -(-high // edge))
            for (low, high), edge in zip(bounds, edges, strict=True)
        )
        with ExitStack() as stack:
            opened: dict[_Place, int | None] = {}
            for place in product(*ranges):
                source, target = _overlap(place, edges, bounds)
                content = self._content(place, opened, stack)
                values[target] = 0 if content is None else self._decoded(content, buffer)[source]
        return values

    def _content(
        self, place: _Place, opened: dict[_Place, int | None], stack: ExitStack
    ) -> memoryview | None:
        """The bytes of a chunk as it was compressed, its checksum compared; `None` for zeros."""
        file = tuple(at // per for at, per in zip(place, self._shard, strict=True))
        if file not in opened:
            name = "/".join(("c", *map(str, file)))
            opened[file] = handle = None
            if name in self._files:
                opened[file] = handle = open_regular(f"{self._directory}/{name}")
                stack.callback(os.close, handle)
        handle = opened[file]
        if handle is None:
            return None
        offset, length = 0, os.fstat(handle).st_size
        if self._is_sharded:
            within = tuple(at % per for at, per in zip(place, self._shard, strict=True))
            offset, length = map(int, self._index(file, handle)[within])
            if offset == _NOWHERE:
                return None
        content = _bytes_at(handle, offset, length)
        return _checked(content) if self.has_checksums else memoryview(content)

    def _index(self, file: _Place, handle: int) -> NDArray[np.uint64]:
        index = self._indices.get(file)
        if index is None:
            length = 16 * math.prod(self._shard) + _CHECKSUM_BYTES
            offset = os.fstat(handle).st_size - length
            content = _checked(_bytes_at(handle, offset, length))
            index = np.frombuffer(content, "<u8").reshape(*self._shard, 2)
            self._indices[file] = index
        return index

    def _decoded(self, content: memoryview, buffer: NDArray[Any]) -> NDArray[Any]:
        """The values of a chunk, in the buffer or in memory of their own."""
        return self._decode(content, buffer).view(self._dtype).reshape(self._chunk)


def open_regular(path: str | Path) -> int:
    """A descriptor of a regular file; `ValueError` for anything else, `OSError` for a link."""
    # A link is never followed: it could lead out of the cache. A pipe must not be waited for.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        msg = f"`{Path(path).name}` is not a regular file"
        raise ValueError(msg)
    return handle


def _bytes_at(handle: int, offset: int, length: int) -> bytes:
    content = os.pread(handle, length, offset) if offset >= 0 else b""
    if len(content) != length:
        msg = f"{len(content)} bytes lie where {length} should"
        raise ValueError(msg)
    return content


def _checked(content: bytes) -> memoryview:
    """The content without the CRC-32C at its end, which must be that of the rest."""
    if google_crc32c.value(content) != _RESIDUE:
        msg = "a chunk is not what was written"
        raise ValueError(msg)
    return memoryview(content)[:-_CHECKSUM_BYTES]


def _decoder(names: Sequence[str]) -> _Decoder:
    known = {("bytes",): _as_it_is, ("bytes", "blosc"): _unblosc, ("bytes", "zstd"): _unzstd}
    if tuple(names) not in known:
        msg = f"chunks are stored as {list(names)}"
        raise ValueError(msg)
    return known[tuple(names)]


def _as_it_is(content: memoryview, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def _unblosc(content: memoryview, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The header tells how much will come: less would leave values of the last chunk behind it.
    if int.from_bytes(content[4:8], "little") != buffer.nbytes:
        msg = f"a chunk does not hold the {buffer.nbytes} bytes that it should"
        raise ValueError(msg)
    blosc.decompress(content, buffer)
    return buffer


def _unzstd(content: memoryview, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Not into the buffer, which would keep values of the last chunk if less came.
    return np.frombuffer(zstd.decompress(content), np.uint8)


def _overlap(
    place: _Place, edges: Sequence[int], bounds: Sequence[tuple[int, int]]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a chunk and a box meet: the slices within the chunk, and those within the box."""
    source, target = [], []
    for at, edge, (low, high) in zip(place, edges, bounds, strict=True):
        begin = at * edge
        first, last = max(low, begin), min(high, begin + edge)
        source.append(slice(first - begin, last - begin))
        target.append(slice(first - low, last - low))
    return tuple(source), tuple(target)


def _edges(settings: Mapping[str, Any], axes: int) -> tuple[int, ...]:
    edges = tuple(int(edge) for edge in settings["chunk_shape"])
    if len(edges) != axes or min(edges, default=0) < 1:
        msg = f"chunks of {list(edges)} in an array of {axes} axes"
        raise ValueError(msg)
    return edges


def _names(codecs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(codec["name"]) for codec in codecs]
