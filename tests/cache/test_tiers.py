"""A private cache before shared ones, which are read, checked and never written."""

from __future__ import annotations

import json
import logging
import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvgen_aug import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import CacheError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec


@pytest.fixture
def shared(tmp_path: Path, make) -> Path:
    """A cache that somebody filled with volume 1."""
    path = tmp_path / "shared"
    key, made = make(1)
    VolumeCache(path, max_bytes="100 MB").put_volume(key, made.volume)
    return path


def contents(path: Path) -> dict[str, tuple[int, int]]:
    found = (p for p in path.rglob("*") if p.is_file())
    return {str(p): (p.stat().st_ino, p.stat().st_size) for p in found}


def test_what_a_shared_cache_holds_is_read_and_not_stored_again(tmp_path, make, shared) -> None:
    key, made = make(1)
    own = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[shared])
    assert own.has_volume(key)
    np.testing.assert_array_equal(own.get_volume(key).image, made.volume.image)
    assert not own.put_volume(key, made.volume)
    assert own.stats().entries == 0


def test_what_is_new_goes_into_the_private_cache_alone(tmp_path, make, shared) -> None:
    key, made = make(2)
    before = contents(shared)
    own = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=shared)
    assert own.put_volume(key, made.volume)
    assert own.stats().entries == 1
    assert contents(shared) == before


def test_a_damaged_entry_of_a_shared_cache_is_a_miss_and_stays_there(
    tmp_path, make, shared
) -> None:
    key, _ = make(1)
    chunk = next(p for p in (shared / "volumes").rglob("c/*/*/*/*") if "image" in p.parts)
    chunk.write_bytes(bytes(chunk.stat().st_size))
    before = contents(shared)
    own = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[shared])
    assert own.get_volume(key) is None
    assert own.stats().damaged == 1
    assert contents(shared) == before


def _forge(root: Path) -> None:
    """Change a chunk, and its CRC-32 in the commit file, but not its SHA-256."""
    commit = next(root.rglob("commit.json"))
    values = json.loads(commit.read_text())
    name = next(n for n in values["files"] if n.startswith("image/c"))
    chunk = commit.parent / name
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    values["files"][name]["crc32"] = zlib.crc32(content)
    commit.write_text(json.dumps(values))


def test_what_somebody_else_wrote_is_compared_with_its_sha256(tmp_path, make, shared) -> None:
    key, _ = make(1)
    _forge(shared)
    own = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[shared])
    assert own.get_volume(key) is None
    assert own.stats().damaged == 1


def test_a_server_compares_what_it_adopts_with_its_sha256(make, shared) -> None:
    key, made = make(1)
    _forge(shared)
    adopted = VolumeCache(shared, max_bytes="100 MB")
    assert adopted.get_volume(key) is None
    assert adopted.stats().quarantined.entries == 1
    assert adopted.put_volume(key, made.volume)


def test_readers_and_pickled_copies_look_into_shared_caches_too(tmp_path, make, shared) -> None:
    key, _ = make(1)
    own = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[shared])
    assert own.reader().get_volume(key) is not None
    assert pickle.loads(pickle.dumps(own)).get_volume(key) is not None


def test_a_shared_cache_that_everybody_may_write_is_refused(tmp_path, shared) -> None:
    shared.chmod(0o777)
    with pytest.raises(CacheError, match="writable by everybody"):
        VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[shared])


def test_a_server_reads_shared_caches(tmp_path) -> None:
    card = PhantomGenerator().card
    spec = card.resolve(VolumeSpec("phantom", seed=3))
    made = PhantomGenerator().generate(spec)
    VolumeCache(tmp_path / "shared").put_volume(card.volume_key(spec), made.volume)
    cache = VolumeCache(tmp_path / "own", max_bytes="100 MB", shared=[tmp_path / "shared"])
    with serve("phantom", cache=cache) as source:
        np.testing.assert_array_equal(source.fetch(spec).image, made.volume.image)
        assert (source.stats().generated, source.stats().hits) == (0, 1)


def test_other_values_for_a_key_are_said_and_the_first_stay(cache, make, caplog) -> None:
    key, made = make(1)
    cache.put_volume(key, made.volume)
    image = made.volume.image.copy()
    image[0, 0, 0, 0] += 1
    with caplog.at_level(logging.WARNING):
        assert not cache.put_volume(key, replace(made.volume, image=image))
    assert "was made twice with other values of image; the first stays" in caplog.text
    np.testing.assert_array_equal(cache.get_volume(key).image, made.volume.image)
    assert cache.stats().damaged == 0


def test_equal_values_for_a_key_are_no_news(cache, make, caplog) -> None:
    key, made = make(1)
    cache.put_volume(key, made.volume)
    with caplog.at_level(logging.WARNING):
        assert not cache.put_volume(key, made.volume)
    assert caplog.text == ""
