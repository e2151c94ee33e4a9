"""A resident process: how it starts, and every way it can end."""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import CacheError
from nvgen_aug.errors import ServerDied
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SourceError
from nvgen_aug.errors import SpecError
from nvgen_aug.serving import lifecycle
from nvgen_aug.serving import place
from nvgen_aug.serving.lifecycle import Resident
from nvgen_aug.serving.lifecycle import bases
from nvgen_aug.serving.place import new_directory
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import private_directory

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Servers of these tests live in a directory of their own."""
    with private_directory() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        yield directory


def has_ended(pid: int) -> bool:
    """Whether a process ends in time; a zombie has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], SECONDS)[0])
    finally:
        os.close(fd)


def test_it_starts_from_stdin_without_a_main_guard(places: Path) -> None:
    script = (
        "import nvgen_aug as nv\n"
        "source = nv.serve('phantom')\n"
        "volume = source.fetch(nv.VolumeSpec('phantom', seed=1, size=(16, 20, 24)))\n"
        "print(source.pid, volume.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=script,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr == ""
    pid, shape = done.stdout.split(" ", 1)
    assert shape.strip() == "(16, 20, 24)"
    # Nobody closed it: it ended with its owner, and its place with it.
    assert has_ended(int(pid))
    assert list(places.iterdir()) == []


def test_closing_ends_the_process_and_removes_its_place(places: Path) -> None:
    with serve("phantom") as source:
        (directory,) = places.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert source.address == f"unix:{directory}/socket"
        assert (directory / "socket").stat().st_mode & 0o777 == 0o600
    assert has_ended(source.pid)
    assert list(places.iterdir()) == []
    with pytest.raises(ServerUnavailable):
        source.fetch(phantom(1))


def test_another_process_of_this_user_reaches_it_by_its_address() -> None:
    with serve("phantom") as source, open_source(source.address) as other:
        assert_same(other.fetch(phantom(1)), made_directly(phantom(1)))


def test_no_thread_of_ours_runs_in_the_owner() -> None:
    before = set(threading.enumerate())
    with serve("phantom") as source:
        source.fetch(phantom(1))
        assert set(threading.enumerate()) == before


def test_killing_it_in_the_middle_of_a_volume_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with serve("phantom", seconds_per_volume=600, cache=tmp_path) as source:
        source.prefetch([phantom(1)])
        killer = threading.Timer(0.5, os.kill, (source.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ServerDied, match=r"died before it answered for volume \w+ \(seed 1\)"):
            source.fetch(phantom(1))
        killer.join()
        with pytest.raises(ServerUnavailable, match="its log is empty"):
            source.fetch(phantom(2))
    reader = VolumeCache(tmp_path, read_only=True)
    assert reader.stats().entries == 0


def test_a_closed_server_lets_a_long_volume_go() -> None:
    with serve("phantom", seconds_per_volume=600) as source:
        source.prefetch([phantom(1)])
        while source.stats().waiting:  # until it has begun
            pass
    assert has_ended(source.pid)


def test_the_figures_of_a_server_outlive_it(tmp_path: Path) -> None:
    for cache in (None, tmp_path):
        with serve("phantom", cache=cache) as source:
            for _ in range(2):
                source.fetch(phantom(1))
            figures = source.stats()
        assert source.stats() == figures
        assert (figures.fetched, figures.generated, figures.hits) == (2, 1, 1)


def test_a_server_that_was_killed_has_no_last_figures() -> None:
    with serve("phantom") as source:
        os.kill(source.pid, signal.SIGKILL)
    with pytest.raises(ServerUnavailable):
        source.stats()


def test_sigterm_lets_the_volume_in_work_reach_the_cache(tmp_path: Path) -> None:
    with serve("phantom", seconds_per_volume=0.5, cache=tmp_path) as source:
        source.prefetch([phantom(1), phantom(2)])
        key = source.card.volume_key(source.resolve(phantom(1)))
        while source.stats().waiting > 1:  # until the first has begun
            pass
    assert VolumeCache(tmp_path, read_only=True).has_volume(key)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_by_itself_when_its_owner_is_killed(places: Path, is_stopped: bool) -> None:
    script = (
        "import os, nvgen_aug as nv\n"
        "source = nv.serve('phantom', seconds_per_volume=600)\n"
        "source.prefetch([nv.VolumeSpec('phantom', seed=1)])\n"
        "worker = os.fork()\n"  # it outlives the owner and holds its files open
        "if worker:\n"
        "    print(source.pid, worker, flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdout is not None
    with owner.stdout:
        server, worker = map(int, owner.stdout.readline().split())
        if is_stopped:
            os.kill(server, signal.SIGSTOP)
        owner.kill()
        owner.wait()
        try:
            assert has_ended(server)
        finally:
            os.kill(worker, signal.SIGKILL)
    for _ in range(100):
        if not list(places.iterdir()):
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: {list(places.iterdir())}")


def test_the_places_of_servers_that_were_killed_with_their_owners_are_swept(
    places: Path,
) -> None:
    stale, lock = new_directory(bases())
    (stale / "socket").touch()
    new_directory_in_use, other_lock = new_directory(bases())
    assert stale.exists()  # somebody holds its lock
    os.close(lock)
    third, third_lock = new_directory(bases())
    assert not stale.exists()
    assert {new_directory_in_use, third} == set(places.iterdir())
    os.close(other_lock)
    os.close(third_lock)


def test_a_place_that_was_swept_before_it_was_locked_is_not_taken(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []

    def sweep_first(lock: int) -> bool:
        if not swept:  # what another process does between our two steps
            swept.append(Path(os.readlink(f"/proc/self/fd/{lock}")).parent)
            shutil.rmtree(swept[0])
        return is_locked(lock)

    is_locked = place._is_locked
    monkeypatch.setattr(place, "_is_locked", sweep_first)
    directory, lock = new_directory(bases())
    os.close(lock)
    assert list(places.iterdir()) == [directory] != swept


def test_options_that_are_no_json_leave_nothing_behind(places: Path) -> None:
    with pytest.raises(TypeError, match="JSON"):
        serve("phantom", seconds_per_volume=object())
    assert list(places.iterdir()) == []


def test_a_place_with_a_long_path_is_passed_over(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = places / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    directory, lock = new_directory(bases())
    os.close(lock)
    assert long not in directory.parents
    (directory / "lock").unlink()
    directory.rmdir()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"variant": "phantm"}, SpecError, "no variant `phantm`; did you mean `phantom`"),
        ({"variant": "phantom", "colour": 1}, SpecError, r"options \['colour'\]"),
        ({"variant": "phantom", "cache": "/proc/nothing"}, CacheError, "/proc/nothing"),
    ],
)
def test_what_keeps_it_from_starting_reaches_the_caller(
    places: Path, arguments: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        serve(**arguments)  # type: ignore[arg-type]
    assert list(places.iterdir()) == []


def test_an_error_that_is_not_ours_is_named(places: Path) -> None:
    with pytest.raises(SourceError, match="ModuleNotFoundError: No module named 'nowhere'"):
        Resident("nowhere:engine", {})


def test_a_process_that_dies_before_it_is_ready_leaves_its_last_words(places: Path) -> None:
    with pytest.raises(ServerDied, match=r"ended with code 3 before it was ready.*log"):
        Resident("os:_exit", {"status": 3})
    assert list(places.iterdir()) == []


def test_one_that_is_not_ready_in_time_is_ended(places: Path) -> None:
    with pytest.raises(ServerUnavailable, match=r"not ready within 0.2 s"):
        serve("phantom", start_timeout=0.2)
    assert list(places.iterdir()) == []


def test_elsewhere_than_on_linux_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle.sys, "platform", "darwin")
    with pytest.raises(SourceError, match="this is darwin; use `open_source`"):
        serve("phantom")


def test_a_server_that_nobody_holds_is_stopped() -> None:
    source = serve("phantom")
    pid = source.pid
    del source
    gc.collect()
    assert has_ended(pid)


def test_there_is_no_listener_that_another_machine_could_reach() -> None:
    with serve("phantom") as source:
        tables = [Path(f"/proc/{source.pid}/net/{name}") for name in ("tcp", "tcp6", "udp")]
        lines = [line for table in tables for line in table.read_text().splitlines()[1:]]
        theirs = {os.readlink(fd) for fd in Path(f"/proc/{source.pid}/fd").iterdir()}
        assert not theirs & {f"socket:[{line.split()[9]}]" for line in lines}
        assert any(link.startswith("socket:") for link in theirs)
