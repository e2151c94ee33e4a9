"""What a run has pinned is not evicted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nvgen_aug.cache import Upkeep
from nvgen_aug.cache import VolumeCache
from nvgen_aug.cli import main
from nvgen_aug.errors import CacheError


@pytest.fixture
def small(tmp_path: Path, make) -> VolumeCache:
    """A cache with room for two volumes and a half, holding volumes 1 and 2."""
    first = VolumeCache(tmp_path / "cache", max_bytes="100 MB")
    for seed in (1, 2):
        first.put_volume(make(seed)[0], make(seed)[1].volume)
    return VolumeCache(first.path, max_bytes=first.stats().bytes * 5 // 4)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_another_volume_goes_instead_of_a_pinned_one(small, make) -> None:
    keys = [make(seed)[0] for seed in (1, 2, 3)]
    small.pin("ablation-1", volumes=keys[:1])
    assert small.put_volume(keys[2], make(3)[1].volume)
    assert [small.has_volume(key) for key in keys] == [True, False, True]
    assert small.stats().pinned.entries == 1


def test_a_volume_can_be_pinned_before_it_is_there(small, make) -> None:
    keys = [make(seed)[0] for seed in (1, 2, 3, 4)]
    small.pin("ablation-1", volumes=keys[2:3])
    for seed in (3, 4):
        small.put_volume(keys[seed - 1], make(seed)[1].volume)
    assert small.has_volume(keys[2])


def test_where_all_is_pinned_a_newcomer_is_not_stored(small, make) -> None:
    small.pin("a", volumes=[make(1)[0]])
    small.pin("b", volumes=[make(2)[0]])
    assert not small.put_volume(make(3)[0], make(3)[1].volume)
    assert small.stats().entries == 2


def test_pins_of_one_name_add_up_and_go_together(small, make) -> None:
    for seed in (1, 2):
        small.pin("ablation-1", volumes=[make(seed)[0]])
    assert small.stats().pinned.entries == 2
    assert small.unpin("ablation-1")
    assert small.stats().pinned.entries == 0
    assert not small.unpin("ablation-1")


def test_gc_leaves_what_is_pinned(small, make) -> None:
    small.pin("ablation-1", volumes=[make(1)[0]])
    gone = Upkeep(small.path).collect(1)
    assert gone.evicted["volumes"].entries == 1
    assert small.has_volume(make(1)[0])


def test_latents_are_pinned_on_their_own(cache, make) -> None:
    _, made = make(1)
    cache.put_latent("ab" * 32, made.latent)
    cache.pin("ablation-1", latents=["ab" * 32])
    Upkeep(cache.path).collect(1)
    assert cache.has_latent("ab" * 32)


def test_a_list_that_cannot_be_read_pins_nothing_and_is_named(small, make, caplog) -> None:
    small.pin("ablation-1", volumes=[make(1)[0]])
    (small.path / "pins" / "ablation-1.json").write_text("[")
    with caplog.at_level(logging.WARNING):
        assert small.stats().pinned.entries == 0
    assert "ablation-1.json cannot be read, so it pins nothing" in caplog.text


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".hidden", "x" * 65])
def test_a_name_that_could_be_a_path_is_refused(cache, name) -> None:
    with pytest.raises(CacheError, match="pin's name"):
        cache.pin(name, volumes=["0" * 64])


def test_a_reader_cannot_pin(cache) -> None:
    with pytest.raises(CacheError, match=r"read-only; open it with read_only=False to pin"):
        cache.reader().pin("ablation-1", volumes=["0" * 64])


def test_warm_pins_and_unpin_takes_it_back(tmp_path, capsys) -> None:
    folder = tmp_path / "cache"
    warm = ("cache", "warm", folder, "--variant", "phantom", "--num", 2, "--max-bytes", "1 GB")
    assert run(*warm, "--pin", "ablation-1") == 0
    assert VolumeCache(folder, read_only=True).stats().pinned.entries == 4  # with their latents
    capsys.readouterr()
    assert run("cache", "unpin", folder, "ablation-2") == 1
    assert "has no pin `ablation-2`; did you mean `ablation-1`?" in capsys.readouterr().err
    assert run("cache", "unpin", folder, "ablation-1") == 0
    assert VolumeCache(folder, read_only=True).stats().pinned.entries == 0
