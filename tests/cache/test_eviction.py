"""A cache stays within its bound, and what is easiest to make again goes first."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import CacheError
from nvgen_aug.volume import Blob


def use(cache: VolumeCache, kind: str, key: str, minutes_ago: float) -> None:
    """Set when an entry was used last."""
    when = time.time() - 60 * minutes_ago
    os.utime(cache.path / kind / key[:2] / key / "commit.json", (when, when))


@pytest.fixture
def size(tmp_path, make) -> int:
    """Bytes of the largest of five volumes on disk."""
    sizes = []
    for seed in range(1, 6):
        cache = VolumeCache(tmp_path / f"measure{seed}", max_bytes="100 MB")
        cache.put_volume(make(seed)[0], make(seed)[1].volume)
        sizes.append(cache.stats().bytes)
    return max(sizes)


def test_the_volume_that_was_used_longest_ago_goes_first(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=3 * size)
    keys = [make(seed)[0] for seed in range(1, 5)]
    for seed in (1, 2, 3):
        cache.put_volume(keys[seed - 1], make(seed)[1].volume)
        use(cache, "volumes", keys[seed - 1], minutes_ago=10 - seed)
    assert cache.get_volume(keys[0]) is not None  # marks it as used now
    assert cache.put_volume(keys[3], make(4)[1].volume)
    assert [cache.has_volume(key) for key in keys] == [True, False, True, True]
    assert cache.stats().bytes <= 3 * size


def test_a_read_by_a_reader_counts_as_use(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
    keys = [make(seed)[0] for seed in (1, 2, 3)]
    for seed in (1, 2):
        cache.put_volume(keys[seed - 1], make(seed)[1].volume)
        use(cache, "volumes", keys[seed - 1], minutes_ago=10 - seed)
    assert cache.reader().get_volume(keys[0]) is not None
    cache.put_volume(keys[2], make(3)[1].volume)
    assert [cache.has_volume(key) for key in keys] == [True, False, True]


def test_a_use_is_noted_at_most_once_a_minute(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    commit = cache.path / "volumes" / key[:2] / key / "commit.json"
    before = commit.stat().st_mtime_ns
    cache.get_volume(key)
    assert commit.stat().st_mtime_ns == before


def test_volumes_go_before_latents_however_fresh_they_are(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
    key, made = make()
    cache.put_latent(key, made.latent)
    use(cache, "latents", key, minutes_ago=1000)
    for seed in (1, 2, 3):
        cache.put_volume(make(seed)[0], make(seed)[1].volume)
    assert cache.get_latent(key) is not None
    assert cache.stats().by_kind["volumes"].entries == 1


def test_a_latent_is_not_evicted_for_a_volume(tmp_path, make) -> None:
    key, made = make()
    cache = VolumeCache(tmp_path / "cache", max_bytes="100 MB")
    cache.put_latent(key, made.latent)
    cache.put_volume(key, made.volume)
    both = cache.stats().bytes
    shutil.rmtree(cache.path / "volumes" / key[:2])
    cache = VolumeCache(tmp_path / "cache", max_bytes=both - 1)
    assert not cache.put_volume(key, made.volume)
    assert cache.get_latent(key) is not None


def test_blobs_go_last_and_not_while_they_may_be_in_use(tmp_path, make) -> None:
    key, made = make()
    cache = VolumeCache(tmp_path / "cache", max_bytes="100 MB")
    blobs = [
        Blob(np.random.default_rng(n).integers(0, 255, (20, 20, 20), np.uint8), np.eye(4))
        for n in range(3)
    ]
    first = cache.put_blob(blobs[0])
    cache.put_latent(key, made.latent)
    cache = VolumeCache(
        tmp_path / "cache", max_bytes=2 * cache.stats().by_kind["blobs"].bytes + 500
    )
    second = cache.put_blob(blobs[1])
    assert cache.get_blob(first) is not None
    assert cache.get_latent(key) is None
    with pytest.raises(CacheError, match="does not fit"):
        cache.put_blob(blobs[2])
    use(cache, "blobs", first, minutes_ago=61)
    cache.put_blob(blobs[2])
    assert cache.get_blob(first) is None
    assert cache.get_blob(second) is not None


def test_an_entry_larger_than_the_bound_is_not_stored(tmp_path, make) -> None:
    key, made = make()
    cache = VolumeCache(tmp_path / "cache", max_bytes=1000)
    assert not cache.put_volume(key, made.volume)
    assert cache.stats().entries == 0
    assert list((cache.path / "partial").iterdir()) == []


def test_the_bound_holds_after_the_cache_was_opened_again(tmp_path, make, size) -> None:
    for seed in range(1, 6):
        cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
        assert cache.put_volume(make(seed)[0], make(seed)[1].volume)
        assert cache.stats().bytes <= 2 * size
    assert cache.has_volume(make(5)[0])


def test_the_bound_holds_for_several_writers_together(tmp_path, make, size) -> None:
    writers = [VolumeCache(tmp_path / "cache", max_bytes=2 * size) for _ in range(2)]
    for seed in range(1, 6):
        assert writers[seed % 2].put_volume(make(seed)[0], make(seed)[1].volume)
        assert writers[0].stats().bytes <= 2 * size


def test_an_entry_without_a_commit_file_goes_first(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
    for seed in (1, 2):
        cache.put_volume(make(seed)[0], make(seed)[1].volume)
    use(cache, "volumes", make(1)[0], minutes_ago=10)
    broken = make(2)[0]
    (cache.path / "volumes" / broken[:2] / broken / "commit.json").unlink()
    cache.put_volume(make(3)[0], make(3)[1].volume)
    assert [cache.has_volume(make(seed)[0]) for seed in (1, 2, 3)] == [True, False, True]


def test_what_was_set_aside_counts_against_the_bound_and_goes_first(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
    keys = [make(seed)[0] for seed in (1, 2, 3)]
    for seed in (1, 2):
        cache.put_volume(keys[seed - 1], make(seed)[1].volume)
    (cache.path / "volumes" / keys[0][:2] / keys[0] / "image" / "zarr.json").unlink()
    assert cache.get_volume(keys[0]) is None
    assert cache.stats().quarantined.entries == 1
    cache.put_volume(keys[2], make(3)[1].volume)
    assert [cache.has_volume(key) for key in keys] == [False, True, True]
    assert cache.stats().quarantined.entries == 0


def test_what_a_killed_writer_left_goes_before_any_entry(tmp_path, make, size) -> None:
    cache = VolumeCache(tmp_path / "cache", max_bytes=2 * size)
    keys = [make(seed)[0] for seed in (1, 2, 3)]
    for seed in (1, 2):
        cache.put_volume(keys[seed - 1], make(seed)[1].volume)
    left = cache.path / "partial" / f"{'0' * 64}.1.00000000.{'0' * 16}"
    left.mkdir()
    os.utime(left, (0, 0))
    cache.put_volume(keys[2], make(3)[1].volume)
    assert not left.exists()


def test_setting_a_damaged_entry_aside_counts_as_a_change(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    (cache.path / "volumes" / key[:2] / key / "image" / "zarr.json").unlink()
    before = int((cache.path / "lock").read_text())
    assert cache.get_volume(key) is None
    assert int((cache.path / "lock").read_text()) == before + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200 GB", 200 * 10**9), ("500MB", 500 * 10**6), ("1.5 kb", 1500), ("7 B", 7), (12345, 12345)],
)
def test_a_bound_is_read_as_people_write_it(tmp_path, text, expected) -> None:
    assert VolumeCache(tmp_path / "cache", max_bytes=text).stats().bound == expected


@pytest.mark.parametrize("text", ["", "many", "-5", "3 GiB", 0, -1, True, float("nan")])
def test_a_bound_that_is_no_size_is_refused(tmp_path, text) -> None:
    with pytest.raises(CacheError, match="max_bytes must be"):
        VolumeCache(tmp_path / "cache", max_bytes=text)


def test_the_default_bound_is_half_of_what_is_free_and_at_most_50_gb(tmp_path) -> None:
    free = shutil.disk_usage(tmp_path).free
    bound = VolumeCache(tmp_path / "cache").stats().bound
    assert bound <= 50 * 10**9
    assert bound == pytest.approx(min(50 * 10**9, free / 2), rel=0.1)
