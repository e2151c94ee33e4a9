"""Between runs a cache is checked whole, freed of refuse and brought within a bound."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from nvgen_aug.cache import Upkeep
from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache.lock import locked
from nvgen_aug.errors import CacheError
from nvgen_aug.volume import Blob


def place_of(cache: VolumeCache, kind: str, key: str) -> Path:
    return cache.path / kind / key[:2] / key


def chunk_of(cache: VolumeCache, kind: str, key: str) -> Path:
    """The largest file of an entry that its commit file lists."""
    place = place_of(cache, kind, key)
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "commit.json"]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    """Change one bit, and neither size nor time."""
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def changes(cache: VolumeCache) -> int:
    with locked(cache._layout) as lock:
        return lock.changes


@pytest.fixture
def filled(cache, make):
    """A cache with two volumes, a latent and an array of the caller; its keys in this order."""
    keys = [make(seed)[0] for seed in (1, 2)]
    for seed in (1, 2):
        cache.put_volume(make(seed)[0], make(seed)[1].volume)
    cache.put_latent(keys[0], make(1)[1].latent)
    blob = cache.put_blob(Blob(np.ones((4, 5, 6), np.uint8), np.eye(4)))
    return cache, [*keys, blob]


def test_a_whole_cache_passes_and_is_left_as_it_was(filled) -> None:
    cache, _ = filled
    before = changes(cache)
    checked = list(Upkeep(cache.path).verify())
    assert [one.held.kind for one in checked] == ["volumes", "volumes", "latents", "blobs"]
    assert not any(one.faults or one.is_aside for one in checked)
    assert sum(one.held.bytes for one in checked) == cache.stats().bytes
    assert changes(cache) == before


@pytest.mark.parametrize("kind", ["volumes", "latents", "blobs"])
def test_a_flipped_bit_is_found_named_and_set_aside(filled, kind) -> None:
    cache, keys = filled
    key = keys[2] if kind == "blobs" else keys[0]
    path = chunk_of(cache, kind, key)
    flip(path)
    before = changes(cache)
    (found,) = (one for one in Upkeep(cache.path).verify() if one.faults)
    name = path.relative_to(place_of(cache, kind, key)).as_posix()
    assert (found.held.kind, found.held.key) == (kind, key)
    assert found.faults == (f"`{name}` has other bytes than those that were written",)
    assert found.is_aside
    assert not place_of(cache, kind, key).exists()
    assert cache.stats().quarantined.entries == 1
    assert changes(cache) == before + 1


def test_a_checksum_that_readers_do_not_look_at_is_compared_too(filled) -> None:
    cache, keys = filled
    commit = place_of(cache, "volumes", keys[0]) / "commit.json"
    text = commit.read_text()
    at = text.index('"sha256": "') + len('"sha256": "')
    commit.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :])
    assert cache.reader().get_volume(keys[0]) is not None
    assert [one.held.key for one in Upkeep(cache.path).verify() if one.is_aside] == [keys[0]]


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes instead of"),
        (lambda path: path.with_name("more").touch(), "is not listed"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "neither a file nor"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "neither a file nor"),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_what_is_missing_short_or_strange_is_found_without_reading_too(
    filled, harm, text, fast
) -> None:
    cache, keys = filled
    harm(chunk_of(cache, "volumes", keys[0]))
    (found,) = (one for one in Upkeep(cache.path, read_only=True).verify(fast=fast) if one.faults)
    assert found.held.key == keys[0]
    assert text in found.faults[0]


def test_a_fast_look_reads_no_chunk_so_a_flipped_bit_stays(filled) -> None:
    cache, keys = filled
    flip(chunk_of(cache, "volumes", keys[0]))
    assert not any(one.faults for one in Upkeep(cache.path).verify(fast=True))


@pytest.mark.parametrize("content", [None, "torn"])
def test_an_entry_without_a_valid_commit_file_is_damaged(filled, content) -> None:
    cache, keys = filled
    commit = place_of(cache, "volumes", keys[0]) / "commit.json"
    commit.unlink()
    if content is not None:
        commit.write_text(content)
    assert cache.stats().unsealed.entries == 1
    (found,) = (one for one in Upkeep(cache.path).verify(fast=True) if one.faults)
    assert "commit" in found.faults[0]
    assert found.is_aside
    assert cache.stats().unsealed.entries == 0


def test_a_read_only_look_changes_nothing(filled) -> None:
    cache, keys = filled
    flip(chunk_of(cache, "volumes", keys[0]))
    for _ in range(2):
        found = [one for one in Upkeep(cache.path, read_only=True).verify() if one.faults]
        assert [(one.held.key, one.is_aside) for one in found] == [(keys[0], False)]


def test_what_is_evicted_during_an_audit_is_no_damage(filled, monkeypatch) -> None:
    cache, keys = filled
    read = Path.lstat
    victim = place_of(cache, "volumes", keys[0])

    def evict_first(path: Path) -> os.stat_result:
        if path == chunk_of_victim and victim.exists():
            victim.rename(cache.path / "partial" / "gone")
        return read(path)

    chunk_of_victim = chunk_of(cache, "volumes", keys[0])
    monkeypatch.setattr(Path, "lstat", evict_first)
    assert not any(one.faults for one in Upkeep(cache.path).verify())
    assert not victim.exists()


def test_an_entry_that_was_set_aside_can_be_stored_again(filled, make) -> None:
    cache, keys = filled
    flip(chunk_of(cache, "volumes", keys[0]))
    list(Upkeep(cache.path).verify())
    assert cache.get_volume(keys[0]) is None
    assert cache.put_volume(keys[0], make(1)[1].volume)
    assert not any(one.faults for one in Upkeep(cache.path).verify())


def test_collecting_empties_quarantine_and_abandoned_partials_only(filled) -> None:
    cache, keys = filled
    flip(chunk_of(cache, "volumes", keys[0]))
    assert cache.get_volume(keys[0]) is None
    aside = cache.stats().quarantined
    dead = cache.path / "partial" / f"{'0' * 64}.1.00000000.{'0' * 16}"
    dead.mkdir()
    (dead / "chunk").write_bytes(bytes(1000))
    os.utime(dead, (0, 0))
    mine = cache._layout.new_partial("1" * 64)
    mine.mkdir()
    (mine / "chunk").write_bytes(bytes(10))
    held = cache.stats().entries
    for dry_run in (True, False):
        gone = Upkeep(cache.path).collect(dry_run=dry_run)
        assert (gone.quarantined, gone.partial.bytes) == (aside, 1000)
        assert (gone.spared.entries, gone.spared.bytes) == (1, 10)
        assert sum(part.entries for part in gone.evicted.values()) == 0
        assert dead.exists() == dry_run
    stats = cache.stats()
    assert (stats.quarantined.entries, stats.partial.entries, stats.entries) == (0, 1, held)
    assert mine.exists()


def test_collecting_evicts_down_to_a_bound_what_was_used_longest_ago(filled) -> None:
    cache, keys = filled
    when = time.time() - 600
    os.utime(place_of(cache, "volumes", keys[1]) / "commit.json", (when, when))
    bound = cache.stats().bytes - 1
    told = Upkeep(cache.path, read_only=True).collect(bound, dry_run=True)
    assert cache.has_volume(keys[1])
    before = changes(cache)
    done = Upkeep(cache.path).collect(bound)
    assert told == done
    assert changes(cache) == before + 1
    assert [cache.has_volume(key) for key in keys[:2]] == [True, False]
    assert done.left == cache.stats().bytes <= bound


def test_collecting_to_almost_nothing_spares_uploads_in_use_and_says_so(filled) -> None:
    cache, keys = filled
    gone = Upkeep(cache.path).collect("1 B")
    assert cache.get_blob(keys[2]) is not None
    assert (cache.stats().entries, gone.excess) == (1, cache.stats().bytes - 1)


def test_collecting_through_a_read_only_view_is_refused(cache) -> None:
    with pytest.raises(CacheError, match="read_only=False"):
        Upkeep(cache.path, read_only=True).collect()


def test_a_folder_that_is_no_cache_is_not_made_one(tmp_path) -> None:
    with pytest.raises(CacheError, match="is not a cache"):
        Upkeep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reading_for_an_export_is_no_use_of_a_volume(filled, make) -> None:
    cache, keys = filled
    commit = place_of(cache, "volumes", keys[0]) / "commit.json"
    os.utime(commit, (1000, 1000))
    volume = Upkeep(cache.path, read_only=True).volume(keys[0])
    np.testing.assert_array_equal(volume.image, make(1)[1].volume.image)
    assert commit.stat().st_mtime == 1000


def test_a_volume_that_is_not_there_is_none_and_a_damaged_one_names_the_next_step(filled) -> None:
    cache, keys = filled
    upkeep = Upkeep(cache.path, read_only=True)
    assert upkeep.volume("0" * 64) is None
    flip(chunk_of(cache, "volumes", keys[0]))
    with pytest.raises(CacheError, match="nvgen-aug cache verify"):
        upkeep.volume(keys[0])
