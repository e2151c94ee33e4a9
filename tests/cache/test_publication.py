"""An entry is there whole or not at all, whoever dies and whatever is damaged."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache import eviction
from nvgen_aug.cache.entry import Damaged
from nvgen_aug.cache.entry import Entry
from nvgen_aug.cache.lock import locked
from nvgen_aug.crop import Crop
from nvgen_aug.errors import CacheError
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume


def files_of(cache: VolumeCache, key: str) -> list[Path]:
    entry = cache.path / "volumes" / key[:2] / key
    return sorted(path for path in entry.rglob("*") if path.is_file())


def _put_and_die(path: str, key: str, volume: SyntheticVolume, fault: int) -> None:
    """Put a volume; be killed just before or just after a call that changes the disk for good."""
    cache = VolumeCache(path, max_bytes="100 MB")
    moments = itertools.count(1)

    def deadly(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            if next(moments) == fault:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **options)
            if next(moments) == fault:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for home, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir")):
        setattr(home, name, deadly(getattr(home, name)))
    cache.put_volume(key, volume)


def test_a_writer_killed_anywhere_leaves_none_or_one_whole_entry(tmp_path, make) -> None:
    key, made = make()
    context = multiprocessing.get_context("fork")
    entries, swept = [], []
    for fault in itertools.count(1):
        path = tmp_path / str(fault)
        writer = context.Process(target=_put_and_die, args=(str(path), key, made.volume, fault))
        writer.start()
        writer.join()
        assert writer.exitcode in (0, -signal.SIGKILL)
        reader = VolumeCache(path, read_only=True)
        found = reader.get_volume(key)
        assert found is None or np.array_equal(found.image, made.volume.image)
        assert (reader.stats().entries, reader.stats().damaged) == (int(found is not None), 0)
        entries.append(reader.stats().entries)
        swept.append(len(list((path / "partial").iterdir())))
        VolumeCache(path, max_bytes="100 MB")
        assert list((path / "partial").iterdir()) == []
        if writer.exitcode == 0:
            break
    # The faults reach from before the first file to after the rename.
    assert entries[0] == 0
    assert entries[-2] == 1
    assert sorted(entries) == entries
    assert max(swept) == 1
    assert len(entries) > 25


def test_a_partial_entry_of_a_living_writer_is_left_alone(cache) -> None:
    partial = cache._layout.new_partial("0" * 64)
    partial.mkdir()
    VolumeCache(cache.path, max_bytes="100 MB")
    assert partial.is_dir()


def test_a_partial_entry_of_another_machine_is_left_for_a_day(cache) -> None:
    partial = cache.path / "partial" / f"{'0' * 64}.1.00000000.{'0' * 16}"
    partial.mkdir()
    VolumeCache(cache.path, max_bytes="100 MB")
    assert partial.is_dir()
    os.utime(partial, (0, 0))
    VolumeCache(cache.path, max_bytes="100 MB")
    assert not partial.exists()


def test_an_entry_appears_only_after_all_of_it_has_reached_the_disk(
    tmp_path, make, monkeypatch
) -> None:
    """What a power cut leaves is what was synced: so all is, before the rename, and then that."""
    key, made = make()
    cache = VolumeCache(tmp_path / "cache", max_bytes="100 MB")
    synced: set[int] = set()
    at_the_rename: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        if self.parent.name == "partial":
            everything = [self, *self.rglob("*")]
            at_the_rename.extend(str(p) for p in everything if p.lstat().st_ino not in synced)
            assert len(everything) > 8
            synced.clear()
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    cache.put_volume(key, made.volume)
    assert at_the_rename == []
    assert (cache.path / "volumes" / key[:2]).stat().st_ino in synced


@pytest.mark.parametrize(
    "harm", ["truncate", "flip", "delete", "extend", "link", "hard link", "same size"]
)
@pytest.mark.parametrize("name", ["image/c", "label/c", "image/zarr.json", "commit.json"])
def test_a_damaged_file_is_a_miss_and_the_volume_can_be_stored_again(
    cache, make, name, harm
) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    if name != "commit.json":
        assert cache.get_volume(key) is not None  # so that the entry is open already
    (path,) = (p for p in files_of(cache, key) if name in p.as_posix())
    content = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif harm == "delete":
        path.unlink()
    elif harm == "extend":
        path.write_bytes(content + b"more")
    elif harm == "link":
        outside = cache.path.parent / "outside"
        path.rename(outside)
        path.symlink_to(outside)
    elif harm == "hard link":
        os.link(path, cache.path.parent / "outside")
    else:
        path.write_bytes(bytes(len(content)))
    crop = Crop((0, 0, 0), (8, 8, 8))
    for reader in (cache.reader(), cache):  # a reader reports, a writer sets aside
        assert reader.get_volume(key, crop) is None
        assert reader.stats().damaged == 1
    assert len(list((cache.path / "quarantine").iterdir())) == 1
    assert cache.put_volume(key, made.volume)
    np.testing.assert_array_equal(cache.get_volume(key).image, made.volume.image)


def test_a_file_that_nobody_wrote_makes_a_miss(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    chunk = next(p for p in files_of(cache, key) if "image/c" in p.as_posix())
    chunk.with_name("1").write_bytes(chunk.read_bytes())
    assert cache.get_volume(key) is None


def test_a_folder_behind_a_link_is_not_followed(cache, make, tmp_path) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    entry = cache.path / "volumes" / key[:2] / key
    (entry / "image").rename(tmp_path / "image")
    (entry / "image").symlink_to(tmp_path / "image")
    assert cache.get_volume(key) is None


def test_an_entry_behind_a_link_is_not_followed(cache, make, tmp_path) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    shelf = cache.path / "volumes" / key[:2]
    shelf.rename(tmp_path / "shelf")
    shelf.symlink_to(tmp_path / "shelf")
    assert cache.reader().get_volume(key) is None


def test_an_array_of_the_caller_under_a_wrong_digest_is_a_miss(cache) -> None:
    blob = Blob(np.ones((2, 3, 4), np.uint8), np.eye(4))
    digest = cache.put_blob(blob)
    wrong = "0" * 64
    entry = cache.path / "blobs" / digest[:2] / digest
    commit = entry / "commit.json"
    commit.write_text(commit.read_text().replace(digest, wrong))
    (cache.path / "blobs" / "00").mkdir()
    entry.rename(cache.path / "blobs" / "00" / wrong)
    assert cache.get_blob(wrong) is None


def test_an_opened_entry_that_is_evicted_is_a_miss(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    reader = cache.reader()
    assert reader.get_volume(key) is not None
    (cache.path / "volumes" / key[:2] / key).rename(cache.path / "partial" / "gone")
    assert reader.get_volume(key) is None
    assert reader.stats().damaged == 0


def test_an_entry_that_goes_away_during_a_read_is_a_miss(cache, make, monkeypatch) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    reader = cache.reader()
    whole = reader.get_volume(key).image

    def evict(name: str) -> None:
        if name == "image":  # zarr would now find no chunk, and fill in zeros
            (cache.path / "volumes" / key[:2] / key).rename(cache.path / "partial" / "gone")

    read = Entry.read

    def read_after_eviction(self, name, *rest, **options):
        evict(name)
        return read(self, name, *rest, **options)

    monkeypatch.setattr(Entry, "read", read_after_eviction)
    assert whole.any()
    assert reader.get_volume(key) is None


def test_too_many_open_files_are_said_and_are_no_damage(cache, make, monkeypatch) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)

    def read(*_: object, **__: object) -> None:
        raise Damaged("cannot be decoded") from OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Entry, "read", read)
        with pytest.raises(CacheError, match="ulimit -n"):
            cache.get_volume(key)
    assert cache.get_volume(key) is not None
    assert cache.stats().damaged == 0


def test_reads_during_evictions_give_whole_volumes_or_misses(cache, make) -> None:
    key, made = make()
    reader = cache.reader()
    stop = threading.Event()
    wrong = []

    def read() -> None:
        while not stop.is_set():
            found = reader.get_volume(key)
            if found is not None and not np.array_equal(found.image, made.volume.image):
                wrong.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(15):
            assert cache.put_volume(key, made.volume)
            with locked(cache._layout):
                eviction.remove(cache._layout, "volumes", key)
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    assert reader.stats().damaged == 0


def _put_at_once(path: str, key: str, volume: SyntheticVolume, barrier: Any, answers: Any) -> None:
    cache = VolumeCache(path, max_bytes="100 MB")
    barrier.wait()
    answers.put(cache.put_volume(key, volume))


def test_of_processes_that_put_one_key_at_once_one_is_first(cache, make) -> None:
    key, made = make()
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    writers = [
        context.Process(
            target=_put_at_once, args=(str(cache.path), key, made.volume, barrier, answers)
        )
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    said = sorted(answers.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join()
    answers.close()
    answers.join_thread()
    assert said == [False, False, True]
    assert cache.stats().entries == 1
    assert list((cache.path / "partial").iterdir()) == []


def test_a_full_disk_makes_room_once_and_then_says_so(cache, make, monkeypatch) -> None:
    key, made = make()
    other, also = make(2)
    cache.put_volume(key, made.volume)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nvgen_aug.cache.publisher.seal", full)
    with pytest.raises(CacheError, match=r"no room: .* bytes are needed and \d+ bytes are free"):
        cache.put_volume(other, also.volume)
    assert cache.stats().entries == 0  # the older volume went, in vain
    assert list((cache.path / "partial").iterdir()) == []
    monkeypatch.undo()
    assert cache.put_volume(other, also.volume)


LIMITED = """
import resource, sys
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import CacheError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec

generator = PhantomGenerator()
spec = generator.card.resolve(VolumeSpec("phantom", seed=1, size=(48, 48, 48)))
volume = generator.generate(spec).volume
cache = VolumeCache(sys.argv[1], max_bytes="100 MB")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    cache.put_volume(generator.card.volume_key(spec), volume)
except CacheError as error:
    print(error)
"""


def test_a_file_that_the_system_refuses_to_extend_leaves_nothing_behind(tmp_path) -> None:
    command = (sys.executable, "-c", LIMITED, str(tmp_path / "cache"))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no room" in done.stdout
    assert list((tmp_path / "cache" / "partial").iterdir()) == []
    assert VolumeCache(tmp_path / "cache", read_only=True).stats().entries == 0
