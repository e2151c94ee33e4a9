"""Boxes of arrays read chunk by chunk: the values, the checksums, and layouts that are not ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec
from zarr.codecs import Crc32cCodec
from zarr.codecs import GzipCodec
from zarr.codecs import ZstdCodec

from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache.chunks import Chunks
from nvgen_aug.cache.entry import COMMIT_FILE
from nvgen_aug.cache.entry import seal
from nvgen_aug.crop import Crop

SHAPE = (2, 13, 9, 11)
VALUES = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
CHUNK, SHARD = (1, 4, 4, 4), (1, 8, 4, 8)
SUMMED = Crc32cCodec()


def written(folder: Path, compressors, shards=None, values=VALUES, chunks=CHUNK) -> Path:
    array = zarr.create_array(
        folder / "array",
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=compressors,
        filters=None,
        fill_value=0,
    )
    array[...] = values
    return folder / "array"


def opened(path: Path) -> Chunks:
    files = frozenset(p.relative_to(path).as_posix() for p in path.glob("c/*/*/*/*"))
    return Chunks(path, json.loads((path / "zarr.json").read_bytes()), files)


@pytest.mark.parametrize("shards", [None, SHARD], ids=["files", "shards"])
@pytest.mark.parametrize(
    "compressors",
    [[BloscCodec(typesize=2), SUMMED], [ZstdCodec(), SUMMED], [SUMMED], [ZstdCodec()], []],
    ids=["blosc", "zstd", "raw", "without checksums", "nothing"],
)
def test_any_box_holds_what_was_written(tmp_path, compressors, shards) -> None:
    chunks = opened(written(tmp_path, compressors, shards))
    rng = np.random.default_rng(0)
    for _ in range(60):
        ends = [sorted(rng.choice(extent + 1, 2, replace=False)) for extent in SHAPE[1:]]
        box = [slice(int(low), int(high)) for low, high in ends]
        found = chunks.read(box)
        np.testing.assert_array_equal(found, VALUES[(slice(None), *box)])
        assert found.dtype == VALUES.dtype


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
def test_numbers_of_every_type_come_back(tmp_path, dtype) -> None:
    values = (VALUES % 7).astype(dtype)
    found = opened(written(tmp_path, [ZstdCodec(), SUMMED], SHARD, values)).read()
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype


def test_chunks_of_zeros_need_not_be_there(tmp_path) -> None:
    values = np.zeros(SHAPE, np.int16)
    values[0, :4, :4, :4] = 7
    path = written(tmp_path, [ZstdCodec(), SUMMED], SHARD, values)
    assert len(list(path.glob("c/*/*/*/*"))) == 1
    np.testing.assert_array_equal(opened(path).read(), values)


@pytest.mark.parametrize("shards", [None, SHARD], ids=["files", "shards"])
def test_no_flipped_bit_of_a_chunk_is_read_as_voxels(tmp_path, shards) -> None:
    path = written(tmp_path, [BloscCodec(typesize=2), SUMMED], shards)
    file = path / "c/0/0/0/0"
    content = file.read_bytes()
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises((ValueError, RuntimeError, MemoryError)):
            opened(path).read([slice(0, 8), slice(0, 4), slice(0, 8)])


def test_a_chunk_of_another_length_is_refused_though_its_checksum_is_right(tmp_path) -> None:
    path = written(tmp_path, [BloscCodec(typesize=2), SUMMED])
    small = VALUES[:1, :2, :4, :4]
    other = written(tmp_path / "other", [BloscCodec(typesize=2), SUMMED], None, small, small.shape)
    shutil.copy(other / "c/0/0/0/0", path / "c/0/0/0/0")
    with pytest.raises(ValueError, match="does not hold the 128 bytes"):
        opened(path).read()


def test_a_layout_that_is_not_ours_is_refused(tmp_path) -> None:
    path = written(tmp_path, [GzipCodec(), SUMMED])
    with pytest.raises(ValueError, match="stored as"):
        opened(path)


def test_a_damaged_chunk_spoils_only_the_crops_that_touch_it(cache, make) -> None:
    key, made = make(3, (96, 64, 64))
    cache.put_volume(key, made.volume)
    shard = cache.path / "volumes" / key[:2] / key / "image/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    first, second = _chunks_of(content, 2)
    content[second] ^= 1
    assert first < second
    shard.write_bytes(content)
    near, far = Crop((0, 0, 0), (8, 8, 8)), Crop((60, 8, 8), (16, 8, 8))
    reader = cache.reader()
    found = reader.get_volume(key, near)
    np.testing.assert_array_equal(found.image, made.volume.cropped(near).image)
    assert reader.get_volume(key, far) is None


def test_an_entry_from_before_chunks_had_checksums_is_read_and_its_damage_found(
    cache, make
) -> None:
    key, made = make(3, (96, 64, 64))
    cache.put_volume(key, made.volume)
    entry = cache.path / "volumes" / key[:2] / key
    shutil.rmtree(entry / "image")
    image = made.volume.image
    path = written(entry, [BloscCodec(typesize=2)], (1, 128, 64, 64), image, (1, 64, 64, 64))
    path.rename(entry / "image")
    (entry / COMMIT_FILE).unlink()
    seal(entry, "volumes", key)
    crop = Crop((0, 0, 0), (8, 8, 8))
    found = VolumeCache(cache.path, read_only=True).get_volume(key, crop)
    np.testing.assert_array_equal(found.image, made.volume.cropped(crop).image)
    shard = entry / "image/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[_chunks_of(content, 2)[1]] ^= 1
    shard.write_bytes(content)
    assert VolumeCache(cache.path, read_only=True).get_volume(key, crop) is None


def _chunks_of(shard: bytes, count: int) -> list[int]:
    """A byte in the middle of each chunk of a shard."""
    index = np.frombuffer(bytes(shard[-4 - 16 * count : -4]), "<u8").reshape(count, 2)
    return [int(offset + length // 2) for offset, length in index]
