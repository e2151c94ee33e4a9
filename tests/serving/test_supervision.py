"""The supervisor: what happens to a generator's process, and what its clients see of it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import DeviceLost
from nvgen_aug.errors import FetchTimeout
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import OutOfMemory
from nvgen_aug.errors import ServerDied
from nvgen_aug.errors import SourceError
from nvgen_aug.serving import Client
from nvgen_aug.serving import Resident
from nvgen_aug.serving.mishaps import explained
from nvgen_aug.serving.restarts import Patience
from nvgen_aug.serving.restarts import Restarts
from nvgen_aug.serving.tally import Tally
from nvgen_aug.volume import SyntheticVolume
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import private_directory

ROOT = Path(__file__).parents[2]
# Many crashes are what these tests are about.
LENIENT = Patience(first_delay=0.01, most_delay=0.01, crashes=1000)

Order = Callable[[int, str], None]


class Supervised:
    """A resident whose generator goes wrong on order."""

    def __init__(self, folder: Path, patience: Patience) -> None:
        self.orders = folder / "orders"
        self.orders.mkdir()
        self.cache = folder / "cache"
        arguments = {"orders": str(self.orders), "cache": str(self.cache)}
        self.resident = Resident("tests.serving.faulty:engine", arguments, patience)
        self.client = Client(self.resident.address, SECONDS * 3)
        self.volumes: dict[int, SyntheticVolume] = {}
        self.errors: list[SourceError] = []

    def ask(self, seed: int) -> None:
        """What a thread does: keep the answer, or the error."""
        try:
            self.volumes[seed] = self.client.fetch(phantom(seed))
        except SourceError as error:
            self.errors.append(error)

    def order(self, seed: int, fault: str) -> None:
        (self.orders / str(seed)).write_text(fault)

    def close(self) -> None:
        self.client.close()
        self.resident.close()

    def entries(self, seed: int) -> list[str]:
        """Kinds of the whole entries of one volume, as a fresh reader finds them."""
        card = self.client.card
        spec = card.resolve(phantom(seed))
        reader = VolumeCache(self.cache, read_only=True)
        found = []
        if reader.get_latent(card.latent_key(spec)) is not None:
            found.append("latent")
        volume = reader.get_volume(card.volume_key(spec))
        if volume is not None:
            assert_same(volume, made_directly(phantom(seed)))
            found.append("volume")
        reader.close()
        return found


@contextmanager
def supervised(folder: Path, patience: Patience) -> Iterator[Supervised]:
    with private_directory() as run, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(run))
        patch.setenv("PYTHONPATH", str(ROOT))
        server = Supervised(folder, patience)
        try:
            yield server
        finally:
            server.close()
        assert list(run.iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with supervised(tmp_path_factory.mktemp("supervised"), LENIENT) as server:
        yield server


def assert_has_ended(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], SECONDS)[0]
    finally:
        os.close(fd)


def test_a_generator_that_is_killed_while_idle_is_replaced(server: Supervised) -> None:
    before = server.client.status()
    os.kill(before.pid, signal.SIGKILL)
    assert_has_ended(before.pid)
    assert_same(server.client.fetch(phantom(101)), made_directly(phantom(101)))
    after = server.client.status()
    assert after.pid != before.pid
    assert after.supervisor == before.supervisor == server.resident.pid
    assert after.restarts == before.restarts + 1
    assert after.last_error == "the generator's process was killed by SIGKILL"


def test_a_generator_that_is_killed_at_work_is_asked_again(server: Supervised) -> None:
    server.order(102, "kill")
    assert_same(server.client.fetch(phantom(102)), made_directly(phantom(102)))
    assert server.entries(102) == ["latent", "volume"]


def test_a_lost_device_means_a_new_process_and_an_answer(server: Supervised) -> None:
    before = server.client.status()
    server.order(103, "lose the device")
    assert_same(server.client.fetch(phantom(103)), made_directly(phantom(103)))
    after = server.client.status()
    assert after.pid != before.pid
    assert "device-side assert triggered; the device needs a new process" in after.last_error


def test_a_generator_out_of_memory_goes_over_to_a_plan_with_less(server: Supervised) -> None:
    before = server.client.status()
    server.order(104, "run out of memory")
    assert_same(server.client.fetch(phantom(104)), made_directly(phantom(104)))
    after = server.client.status()
    assert (after.pid, after.steps_down) == (before.pid, before.steps_down + 1)


def test_a_generator_without_a_smaller_plan_says_what_to_do(server: Supervised) -> None:
    server.order(105, "always run out of memory")
    with pytest.raises(OutOfMemory, match=r"Tried to allocate.*; ask for a smaller size"):
        server.client.fetch(phantom(105))
    # A request that fails does not make the server fail.
    assert_same(server.client.fetch(phantom(106)), made_directly(phantom(106)))


def test_a_request_that_kills_each_process_is_given_up(server: Supervised) -> None:
    server.order(107, "always kill")
    with pytest.raises(ServerDied, match=r"\(seed 107\).*asked 3 times and died each time"):
        server.client.fetch(phantom(107))
    assert_same(server.client.fetch(phantom(108)), made_directly(phantom(108)))


def test_an_answer_under_way_arrives_although_the_server_is_stopped(tmp_path: Path) -> None:
    found: list[SyntheticVolume] = []
    with supervised(tmp_path, LENIENT) as server:
        # It is being made when the signal comes: the supervisor passes the signal on.
        asking = Thread(target=lambda: found.append(server.client.fetch(phantom(1))))
        server.order(1, "pause")
        asking.start()
        while (server.orders / "1").exists():
            asking.join(0.02)
        os.kill(server.resident.pid, signal.SIGTERM)
        asking.join(SECONDS)
        assert_has_ended(server.resident.pid)
    assert_same(found[0], made_directly(phantom(1)))


def asked_in_turn(server: Supervised, seeds: list[int]) -> list[Thread]:
    """A client for each volume; the first one is in work, and takes a while, the others wait."""
    threads = [Thread(target=server.ask, args=(seed,)) for seed in seeds]
    server.order(seeds[0], "pause")
    threads[0].start()
    while (server.orders / str(seeds[0])).exists():
        threads[0].join(0.02)
    for thread in threads[1:]:
        thread.start()
    while server.client.status().waiting < len(seeds) - 1 and threads[0].is_alive():
        threads[0].join(0.02)
    return threads


def test_who_waits_in_the_queue_of_a_process_that_is_told_to_end_is_served_by_the_next(
    tmp_path: Path,
) -> None:
    with supervised(tmp_path, LENIENT) as server:
        threads = asked_in_turn(server, [1, 2, 3])
        os.kill(server.client.status().pid, signal.SIGTERM)
        for thread in threads:
            thread.join(SECONDS)
        assert server.errors == []
        for seed, volume in server.volumes.items():
            assert_same(volume, made_directly(phantom(seed)))
        assert sorted(server.volumes) == [1, 2, 3]
        assert server.client.status().restarts == 1


def test_who_waits_in_the_queue_of_a_killed_server_hears_that_it_died(tmp_path: Path) -> None:
    with supervised(tmp_path, LENIENT) as server:
        threads = asked_in_turn(server, [1, 2, 3])
        os.kill(server.resident.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(SECONDS)
        # What was in work is answered; nobody takes the place of a supervisor.
        assert_same(server.volumes[1], made_directly(phantom(1)))
        assert [type(error) for error in server.errors] == [ServerDied, ServerDied]


def test_a_job_without_progress_is_ended_and_done_by_another_process(tmp_path: Path) -> None:
    patience = Patience(first_delay=0.01, hang=1.0)
    with supervised(tmp_path, patience) as server:
        server.order(1, "hang")
        assert_same(server.client.fetch(phantom(1)), made_directly(phantom(1)))
        status = server.client.status()
        assert status.restarts == 1
        assert "its job made no progress for" in status.last_error


# Who asks for a hang to be ended soon means a process that cannot even say that it hangs, too.
@pytest.mark.parametrize("limit", [{"silence": 3.0}, {"hang": 3.0}])
def test_a_process_that_is_stopped_is_taken_for_dead(
    tmp_path: Path, limit: dict[str, float]
) -> None:
    patience = Patience(first_delay=0.01, **limit)
    with supervised(tmp_path, patience) as server:
        server.order(1, "stop")
        assert_same(server.client.fetch(phantom(1)), made_directly(phantom(1)))
        assert "it gave no sign of life for 3 s" in server.client.status().last_error


def test_a_crash_loop_opens_the_breaker_and_clients_hear_why(tmp_path: Path) -> None:
    patience = Patience(first_delay=0.01, crashes=2)
    with supervised(tmp_path, patience) as server:
        server.order(1, "always kill")
        with pytest.raises(
            ServerDied, match=r"died 2 times within 60 s.*killed by SIGKILL; the next try is in \d+"
        ):
            server.client.fetch(phantom(1))
        with pytest.raises(ServerDied, match="died 2 times"):
            server.client.fetch(phantom(2))


def test_a_client_waits_for_a_server_that_starts_again_no_longer_than_it_may(
    tmp_path: Path,
) -> None:
    with supervised(tmp_path, Patience(first_delay=600.0, most_delay=600.0)) as server:
        pid = server.client.status().pid
        os.kill(pid, signal.SIGKILL)
        assert_has_ended(pid)
        server.client.timeout = 1.0
        with pytest.raises(FetchTimeout, match=r"started again, because .* killed by SIGKILL"):
            server.client.fetch(phantom(1))


def test_a_generator_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, LENIENT) as server:
        child = server.client.status().pid
        os.kill(server.resident.pid, signal.SIGKILL)
        assert_has_ended(child)


def test_not_even_a_generator_that_is_stopped_outlives_its_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, LENIENT) as server:
        child = server.client.status().pid
        os.kill(child, signal.SIGSTOP)
        os.kill(server.resident.pid, signal.SIGKILL)
        assert_has_ended(child)


def test_each_crash_of_a_minute_doubles_the_delay() -> None:
    restarts = Restarts(Patience())
    assert [restarts.crashed(float(at), "x") for at in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert not restarts.is_broken


def test_the_fifth_crash_within_a_minute_opens_the_breaker() -> None:
    restarts = Restarts(Patience())
    delays = [restarts.crashed(float(at), "x") for at in range(5)]
    assert delays[-1] == 60.0
    assert restarts.is_broken


def test_crashes_of_long_ago_are_forgotten() -> None:
    restarts = Restarts(Patience())
    assert [restarts.crashed(at * 61.0, "x") for at in range(20)] == [0.1] * 20
    assert (restarts.count, restarts.is_broken) == (20, False)


def test_the_delay_has_a_bound() -> None:
    restarts = Restarts(Patience(crashes=100))
    assert max(restarts.crashed(at * 0.1, "x") for at in range(50)) == 10.0


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_patience_is_a_positive_number(value: object) -> None:
    with pytest.raises(SourceError, match=r"patience: hang must be"):
        Patience(hang=value)  # type: ignore[arg-type]


def test_patience_travels_as_json() -> None:
    assert Patience.from_json(LENIENT.to_json()) == LENIENT
    for text in ("", "[]", '{"hang": -1}', '{"colour": 1}'):
        with pytest.raises(SourceError):
            Patience.from_json(text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), DeviceLost),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory"), OutOfMemory),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), GenerationError),
        (ValueError("an illegal memory access, says who?"), GenerationError),
    ],
)
def test_what_an_exception_means_is_told_from_its_text(
    error: Exception, kind: type[Exception]
) -> None:
    assert type(explained(error, "volume")) is kind


def test_an_error_of_this_package_stays_what_it_is() -> None:
    error = SourceError("closed")
    assert explained(error, "volume") is error


def test_a_proof_is_good_for_a_minute() -> None:
    now = 0.0
    tally = Tally(lambda: now)
    assert not tally.health().is_ready
    tally.begin()
    tally.end()
    now = 59.0
    assert tally.health().is_ready
    now = 61.0
    assert not tally.health().is_ready


def test_a_canary_is_a_proof_and_no_volume() -> None:
    now = 0.0
    tally = Tally(lambda: now)
    now = 60.0
    tally.begin()
    tally.end(is_volume=False)
    assert tally.health().is_ready
    assert tally.health().volumes_per_minute == 0.0
    tally.begin()
    tally.end()
    assert tally.health().volumes_per_minute == 1.0


def test_a_failure_takes_the_proof_back() -> None:
    tally = Tally(lambda: 0.0)
    tally.begin()
    tally.end()
    tally.begin()
    tally.end("NaN")
    assert not tally.health().is_ready
    assert tally.health().error == "NaN"


def test_progress_ends_the_silence_of_a_job() -> None:
    now = 0.0
    tally = Tally(lambda: now)
    tally.begin()
    now = 10.0
    assert tally.health().silent == 10.0
    tally.progress()
    now = 12.0
    assert tally.health().silent == 2.0
    tally.end()
    assert tally.health().silent == 0.0
    assert tally.health().longest == 12.0
