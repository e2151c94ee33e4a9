"""A directory that cannot serve as a cache is refused with the reason and the fix."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import CacheError


def test_a_new_cache_belongs_to_its_owner_alone(tmp_path) -> None:
    cache = VolumeCache(tmp_path / "a" / "cache", max_bytes="1 MB")
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_is_not_a_cache(tmp_path, read_only) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(CacheError, match=f"{path} cannot be used by user {os.getuid()}"):
        VolumeCache(path, read_only=read_only)


def test_a_directory_that_cannot_be_made_is_named_with_the_fix(tmp_path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "cache"
    with pytest.raises(CacheError, match=r"Not a directory; name a directory of your own"):
        VolumeCache(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path) -> None:
    path = tmp_path / "cache"
    path.mkdir(mode=0o500)
    with pytest.raises(CacheError, match=r"mode 0500.*permission denied"):
        VolumeCache(path)


def test_a_directory_whose_name_is_no_text_is_refused(tmp_path) -> None:
    with pytest.raises(CacheError, match=r"'.*caf\\udce9' has a name that is not text"):
        VolumeCache(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))


def test_a_reader_refuses_a_cache_that_is_not_there(tmp_path) -> None:
    with pytest.raises(CacheError, match="there is no cache at"):
        VolumeCache(tmp_path / "cache", read_only=True)


def test_a_directory_that_everybody_may_write_is_refused(tmp_path) -> None:
    path = tmp_path / "cache"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(CacheError, match=r"mode 0777.*chmod o-w"):
        VolumeCache(path)


def test_a_directory_with_other_things_in_it_is_refused(tmp_path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CacheError, match=r"is not a cache: .*`thesis.tex`"):
        VolumeCache(tmp_path)


def test_a_reader_of_an_empty_directory_is_not_told_to_name_an_empty_one(tmp_path) -> None:
    with pytest.raises(CacheError, match=r"is not a cache: it has no [a-z.-]+; check its path$"):
        VolumeCache(tmp_path, read_only=True)


def test_a_cache_that_another_process_has_just_begun_is_one(cache, monkeypatch) -> None:
    read, looks = Path.read_text, []

    def too_early_at_first(path: Path, *rest: Any, **options: Any) -> str:
        looks.append(path)
        if len(looks) == 1:
            raise FileNotFoundError(path)
        return read(path, *rest, **options)

    monkeypatch.setattr(Path, "read_text", too_early_at_first)
    assert VolumeCache(cache.path).stats().entries == 0
    assert len(looks) > 1


@pytest.mark.parametrize("text", [json.dumps({"format": 2}), "{}", "[]", "torn", ""])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_cache_of_an_unknown_format_is_refused(cache, text, read_only) -> None:
    (cache.path / "nvgen-cache.json").write_text(text)
    with pytest.raises(CacheError, match="upgrade nvgen_aug"):
        VolumeCache(cache.path, read_only=read_only)


def test_a_folder_of_the_cache_that_is_a_link_is_refused(cache, tmp_path) -> None:
    (cache.path / "volumes").rename(tmp_path / "volumes")
    (cache.path / "volumes").symlink_to(tmp_path / "volumes")
    with pytest.raises(CacheError, match="symbolic link"):
        VolumeCache(cache.path)
    with pytest.raises(CacheError, match="symbolic link"):
        cache.reader()


def test_a_file_system_without_locks_is_named(cache, make, monkeypatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    key, made = make()
    with pytest.raises(CacheError, match="no file locks"):
        cache.put_volume(key, made.volume)
    assert list((cache.path / "partial").iterdir()) == []


def test_a_lock_file_that_cannot_be_opened_is_named_with_the_next_step(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    (cache.path / "volumes" / key[:2] / key / "image" / "zarr.json").unlink()
    (cache.path / "lock").unlink()
    (cache.path / "lock").symlink_to("elsewhere")
    with pytest.raises(CacheError, match=r"/lock: .*; name a directory of your own"):
        cache.get_volume(key)


def test_a_damaged_entry_that_cannot_be_moved_is_named_with_the_next_step(
    cache, make, monkeypatch
) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    (cache.path / "volumes" / key[:2] / key / "image" / "zarr.json").unlink()

    def read_only(path: Path, _: Path) -> Path:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "rename", read_only)
    with pytest.raises(CacheError, match=f"{key}: Read-only file system; name a directory"):
        cache.get_volume(key)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_folder_that_cannot_be_read_is_named_with_the_next_step(
    cache, read_only, monkeypatch
) -> None:
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if os.fspath(path).endswith("latents"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    view = VolumeCache(cache.path, max_bytes="1 MB", read_only=read_only)
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(CacheError, match=r"latents: Permission denied; .* repair its permissions"):
        view.stats()


def test_too_many_open_files_are_not_taken_for_permissions(cache, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "scandir", full)
    with pytest.raises(CacheError, match="ulimit -n"):
        cache.stats()
