"""One server for all processes of a machine that ask for the same, and one with many generators."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.errors import SpecError
from nvgen_aug.serving import Client
from nvgen_aug.serving.lifecycle import running
from nvgen_aug.source import SourceStats
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import private_directory
from tests.serving.test_lifecycle import has_ended

ROOT = Path(__file__).parents[2]
# A rank: it says which server it found, and stays until it is told to go.
RANK = """
import sys, nvgen_aug as nv
source = nv.serve("phantom", cache=sys.argv[1], seconds_per_volume=0.2)
source.fetch(nv.VolumeSpec("phantom", seed=int(sys.argv[2]), size=(16, 20, 24)))
print(source.pid, flush=True)
sys.stdin.readline()
source.close()
"""


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with private_directory() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        yield directory


def rank(cache: Path, seed: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RANK, str(cache), str(seed)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


def server_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def go(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")
    assert process.returncode == 0


def test_ranks_that_start_at_the_same_time_find_one_server(places: Path, tmp_path: Path) -> None:
    ranks = [rank(tmp_path) for _ in range(2)]
    (pid,) = {server_of(process) for process in ranks}
    (address,) = running()
    with Client(address) as client:
        assert client.stats().generated == 1  # of the one volume that both wanted
    go(ranks[0])
    assert not has_gone(pid)
    with Client(address) as client:
        assert_same(client.fetch(phantom(2)), made_directly(phantom(2)))
    go(ranks[1])
    assert has_ended(pid)
    assert list(places.iterdir()) == []


def test_the_server_outlives_the_rank_that_started_it_even_if_that_is_killed(
    places: Path, tmp_path: Path
) -> None:
    first = rank(tmp_path)
    pid = server_of(first)
    second = rank(tmp_path, seed=2)
    assert server_of(second) == pid
    first.kill()
    first.communicate()
    assert_same(open_source(running()[0]).fetch(phantom(3)), made_directly(phantom(3)))
    second.kill()
    second.communicate()
    assert has_ended(pid)


def test_who_comes_when_the_last_has_just_left_gets_a_server_of_its_own() -> None:
    for seed in range(3):
        with serve("phantom") as source:
            assert_same(source.fetch(phantom(seed)), made_directly(phantom(seed)))


def test_the_lock_of_a_process_that_was_killed_while_it_started_one_is_taken_away(
    places: Path,
) -> None:
    script = (
        "import os\n"
        "from nvgen_aug.serving.lifecycle import bases\n"
        "from nvgen_aug.serving.place import only_one\n"
        "with only_one(bases(), 'name'): os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 9
    assert len(list(places.iterdir())) == 1
    with serve("phantom"):
        pass
    assert list(places.iterdir()) == []


def test_another_cache_device_or_option_is_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve("phantom") as one, serve("phantom", cache=tmp_path) as other:
        assert one.pid != other.pid
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with serve("phantom") as third, serve("phantom") as fourth:
            assert third.pid == fourth.pid != one.pid


def test_who_does_not_answer_any_more_is_ended_by_its_last_owner(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvgen_aug.serving.lifecycle.SECONDS_TO_JOIN", 0.2)
    monkeypatch.setattr("nvgen_aug.serving.lifecycle.SECONDS_TO_DRAIN", 0.2)
    with serve("phantom") as source:
        with Client(source.address) as client:
            child = client.status().pid
        os.kill(source.pid, signal.SIGSTOP)
    assert has_ended(source.pid)
    assert has_ended(child)
    assert list(places.iterdir()) == []


def test_two_devices_share_the_work_behind_one_address() -> None:
    seeds = range(12)
    with serve("phantom", device=["cpu", "cpu"]) as source:
        assert len(running()) == 2
        with open_source(source.address) as other:
            for seed in seeds:
                assert_same(other.fetch(phantom(seed)), made_directly(phantom(seed)))
                assert_same(source.fetch(phantom(seed)), made_directly(phantom(seed)))
        by_each = [made(address) for address in running()]
        assert min(by_each) > 0
        assert sum(by_each) == len(seeds) == source.stats().generated
        volume = made_directly(phantom(1))
        assert volume.label is not None
        digest = source.put(volume.label[0], volume.affine)
        for seed in seeds:  # each of them knows it
            source.fetch(phantom(seed, mask=digest))


def test_what_two_generators_rejected_is_counted_by_reason() -> None:
    one = SourceStats(generated=1, rejected={"empty": 1})
    both = one + SourceStats(generated=2, rejected={"empty": 2, "dark": 1})
    assert both == SourceStats(generated=3, rejected={"empty": 3, "dark": 1})


def test_a_killed_generator_is_replaced_while_the_other_goes_on() -> None:
    with serve("phantom", device=["cpu", "cpu"]) as source:
        keys = {seed: source.card.volume_key(source.resolve(phantom(seed))) for seed in range(16)}
        one, other = (child(address) for address in running())
        os.kill(one, signal.SIGSTOP)
        # Those of the other one do not wait for it.
        for seed, key in keys.items():
            if int(key[:8], 16) % 2:
                assert_same(source.fetch(phantom(seed)), made_directly(phantom(seed)))
        os.kill(one, signal.SIGKILL)
        for seed in keys:
            assert_same(source.fetch(phantom(seed)), made_directly(phantom(seed)))
        replaced, same = (child(address) for address in running())
        assert same == other
        assert replaced != one


def test_no_device_at_all_is_refused() -> None:
    with pytest.raises(SpecError, match=r"device must be one, or a list of them"):
        serve("phantom", device=[])


def test_if_one_of_two_generators_cannot_load_neither_stays(places: Path) -> None:
    with pytest.raises(SpecError, match="device 'nonsense' cannot be used here"):
        serve("tiny-brain", device=["cpu", "nonsense"])
    assert list(places.iterdir()) == []


def has_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def made(address: str) -> int:
    with Client(address) as client:
        return client.status().generated


def child(address: str) -> int:
    with Client(address) as client:
        return client.status().pid
