"""The server: who may ask, what is nonsense, and what a client leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.errors import FetchTimeout
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SourceError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.serving import messages as m
from nvgen_aug.serving import server as server_module
from nvgen_aug.serving import wire
from nvgen_aug.serving.connection import PREFIX
from nvgen_aug.serving.connection import Pool
from nvgen_aug.serving.connection import Turn
from nvgen_aug.serving.place import check_private
from nvgen_aug.serving.place import listen
from nvgen_aug.serving.ring import Ring
from nvgen_aug.serving.server import Server
from nvgen_aug.serving.server import check_peer
from nvgen_aug.serving.server import peer_of
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import Gated
from tests.serving.doubles import private_directory
from tests.serving.doubles import served
from tests.serving.workers import hold_a_slot


@pytest.fixture
def running() -> Iterator[tuple[Server, str]]:
    with served(Engine(PhantomGenerator())) as (server, address):
        yield server, address


def raw_connection(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(address.removeprefix(PREFIX))
    return connection


def greeted(address: str) -> socket.socket:
    connection = raw_connection(address)
    connection.sendall(wire.frame(m.Hello(m.PROTOCOL)))
    message, fds, _, _ = socket.recv_fds(connection, 1 << 16, 1)
    assert b"Welcome" in message
    for fd in fds:
        os.close(fd)
    return connection


def is_hung_up(connection: socket.socket) -> bool:
    """Whether the server closes, perhaps after an error message."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def assert_it_lives(address: str) -> None:
    with Client(address) as client:
        assert_same(client.fetch(phantom(1)), made_directly(phantom(1)))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">4sBI", b"nvga", m.PROTOCOL, 2**32 - 1),
        struct.pack(">4sBI", b"nvga", m.PROTOCOL, 4) + b"\x80\x04N.",
        struct.pack(">4sBI", b"nvga", 77, 0),
        wire.frame(m.Done(1)),
        wire.frame(m.Launch("os:abort", ("{}",), "/", 1, "{}")),
        wire.frame(m.Put(1, "|O", (1, 1, 1), (1.0,) * 16)),
        wire.frame(m.Put(1, "|u1", (1 << 20, 1 << 20, 1), (1.0,) * 16)),
        wire.frame(m.Put(1, "|u1", (-1, 2, 2), (1.0,) * 16)),
    ],
)
@pytest.mark.parametrize("is_greeted", [False, True])
def test_nonsense_ends_the_connection_and_not_the_server(
    running: tuple[Server, str], nonsense: bytes, is_greeted: bool
) -> None:
    _, address = running
    with greeted(address) if is_greeted else raw_connection(address) as connection:
        connection.sendall(nonsense)
        assert is_hung_up(connection)
    assert_it_lives(address)


def test_a_client_of_another_protocol_is_told_so(running: tuple[Server, str]) -> None:
    with raw_connection(running[1]) as connection:
        connection.sendall(struct.pack(">4sBI", b"nvga", 77, 0))
        said = f"speaks protocol 77, this one {m.PROTOCOL}; use one release"
        with pytest.raises(SourceError, match=said):
            wire.receive(connection, m.Welcome)


def test_a_frame_of_legal_form_that_asks_the_impossible_is_answered(
    running: tuple[Server, str],
) -> None:
    with greeted(running[1]) as connection:
        for spec in ("", "{}", VolumeSpec("phantom", seed=1, size=(9, 9, 9)).to_json()):
            connection.sendall(wire.frame(m.Fetch(5, spec, None, 1.0)))
            assert wire.receive(connection, m.Message).kind == "SpecError"  # type: ignore[attr-defined]


def test_another_user_is_refused() -> None:
    check_peer(os.getuid())
    with pytest.raises(SourceError, match=r"answers user \d+ only, and user 12345 asked"):
        check_peer(12345)


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == (os.getpid(), os.getuid())


def test_a_refused_user_hears_why(
    running: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "peer_of", lambda connection: (1, 12345))
    with Client(running[1]) as client, pytest.raises(SourceError, match="user 12345 asked"):
        client.stats()


def test_more_clients_than_it_takes_come_again_until_there_is_room(
    running: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    with Client(running[1]) as one, Client(running[1]) as other:
        one.stats()
        other.timeout = 1.0
        with pytest.raises(FetchTimeout, match="has 1 clients, which is all it takes"):
            other.stats()
        one.close()
        other.timeout = SECONDS
        other.stats()


def test_a_refusal_is_heard_by_a_client_that_had_not_greeted_yet() -> None:
    with private_directory() as directory:
        listener = listen(directory / "socket")

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(wire.frame(m.Failure.of(SourceError("come back later"))))

        for _ in range(20):  # sometimes it hangs up before the greeting, sometimes after
            thread = Thread(target=refuse)
            thread.start()
            client = Client(f"unix:{directory / 'socket'}")
            with client, pytest.raises(SourceError, match="come back later"):
                client.stats()
            thread.join()
        listener.close()


def test_the_socket_is_for_its_owner_only() -> None:
    with private_directory() as directory:
        listener = listen(directory / "socket")
        listener.close()
        assert (directory / "socket").stat().st_mode & 0o777 == 0o600
        directory.chmod(0o750)
        with pytest.raises(SourceError, match=r"mode 0700, got user \d+ and mode 0750"):
            listen(directory / "other")


def test_a_link_to_a_private_directory_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SourceError, match="must belong to"):
        check_private(tmp_path / "link")


def test_a_path_that_no_socket_can_have_is_named() -> None:
    with (
        private_directory() as directory,
        pytest.raises(SourceError, match="may have 107 bytes"),
    ):
        listen(directory / ("x" * 100))


def test_a_volume_larger_than_a_slot_arrives_whole() -> None:
    engine = Engine(PhantomGenerator())
    with served(engine, Ring(2, 4096)) as (server, address), Client(address) as client:
        for seed in range(3):
            assert_same(client.fetch(phantom(seed)), made_directly(phantom(seed)))
        assert server.ring.wait_until_free(2, timeout=30.0)


def test_volumes_and_their_parts_asked_for_again_arrive_as_the_first_time() -> None:
    crops = (None, Crop((0, 0, 0), (8, 8, 8)), Crop((4, 0, 0), (8, 8, 8)))
    with (
        served(Engine(PhantomGenerator()), Ring(3, 1 << 21)) as (_, address),
        Client(address) as client,
    ):
        for seed, crop in [(seed, crop) for _ in range(2) for seed in range(2) for crop in crops]:
            expected = made_directly(phantom(seed)).cropped(crop)
            np.testing.assert_array_equal(client.fetch(phantom(seed), crop).image, expected.image)


def test_the_slot_of_a_client_that_dies_comes_back(running: tuple[Server, str]) -> None:
    server, address = running
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=hold_a_slot, args=(address, theirs))
    child.start()
    with ours, theirs:
        assert ours.poll(SECONDS * 2)
        assert ours.recv() == "held"
        assert server.ring.free == server.ring.slots - 1
        child.kill()
        child.join()
        child.close()
        assert server.ring.wait_until_free(server.ring.slots, SECONDS)


def test_a_request_whose_client_has_gone_is_taken_back() -> None:
    generator = Gated()
    with served(Engine(generator)) as (_, address):
        with Client(address) as client:
            client.prefetch([phantom(0)])
            assert generator.begun.wait(SECONDS)
        with Client(address) as client:
            client.stats()
            client.timeout = 0.3
            with pytest.raises(FetchTimeout):
                client.fetch(phantom(1))
        with Client(address) as client:
            generator.gate.wait(1.0)  # a server looks five times a second
            generator.gate.set()
            client.fetch(phantom(2))
    assert generator.seeds == [0, 2]


def test_a_timed_out_reply_is_not_mistaken_for_the_next_one() -> None:
    generator = Gated()
    with served(Engine(generator)) as (_, address), Client(address) as client:
        client.stats()  # connected
        client.timeout = 0.3
        with pytest.raises(FetchTimeout, match=r"within 0.3 s for volume \w+ \(seed 1\); give it"):
            client.fetch(phantom(1))
        client.timeout = SECONDS
        generator.gate.set()
        assert_same(client.fetch(phantom(2)), made_directly(phantom(2)))


def test_an_answer_that_comes_just_after_a_look_is_not_lost(
    running: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Future[SyntheticVolume]):
        """Done between the end of the first wait and the question whether it is done."""

        def result(self, timeout: float | None = None) -> SyntheticVolume:
            if not self.done():
                self.set_result(made_directly(phantom(1)))
                raise TimeoutError
            return super().result(timeout)

    monkeypatch.setattr(Engine, "submit", lambda *arguments, **more: Late())
    with Client(running[1]) as client:
        assert_same(client.fetch(phantom(1)), made_directly(phantom(1)))


def test_an_answer_to_another_request_is_refused_and_its_connection_closed(
    running: tuple[Server, str],
) -> None:
    pool = Pool()
    with pytest.raises(SourceError, match="another request came: Done"):
        ask_twice_listen_once(pool, running[1])
    assert pool.idle == []


def ask_twice_listen_once(pool: Pool, address: str) -> None:
    with Turn(pool, address, SECONDS, "a sign of life") as connection:
        connection.send(m.Ping(1))
        connection.send(m.Ping(2))
        connection.receive_answer(m.Done, 2)


def test_threads_of_one_process_ask_side_by_side() -> None:
    generator = Gated()
    with (
        served(Engine(generator)) as (_, address),
        Client(address) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        flights = [threads.submit(client.fetch, phantom(1)) for _ in range(4)]
        while client.stats().joined < 3:
            generator.begun.wait(0.05)
        generator.gate.set()
        for flight in flights:
            assert_same(flight.result(SECONDS), made_directly(phantom(1)))
    assert generator.seeds == [1]


def test_nobody_at_the_address_is_said_with_the_next_step(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/socket") as client:
        for _ in range(2):
            with pytest.raises(ServerUnavailable, match=r"no generator answers at unix:.*/socket"):
                client.fetch(phantom(1))
        with pytest.raises(ServerUnavailable, match="start one with `nvgen-aug serve`"):
            client.card  # noqa: B018


@pytest.mark.parametrize("address", ["", "unix:", "tcp://host:1", "/run/socket"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="is `unix:` and a path, got"):
        Client(address)


def test_a_server_started_anew_at_the_same_address_is_found() -> None:
    with private_directory() as directory:
        path = directory / "socket"
        with Client(f"{PREFIX}{path}") as client:
            for _ in range(2):
                with served(Engine(PhantomGenerator()), path=path):
                    assert_same(client.fetch(phantom(1)), made_directly(phantom(1)))


def test_a_large_array_arrives_whole(running: tuple[Server, str]) -> None:
    array = np.arange(100 * 100 * 101, dtype=np.int32).reshape(100, 100, 101)
    with Client(running[1]) as client:
        assert client.put(array, np.eye(4)) == Blob(array, np.eye(4)).digest()


def test_a_full_queue_puts_clients_off_and_drops_nobody() -> None:
    engine = Engine(PhantomGenerator(seconds_per_volume=0.05))
    with (
        served(engine, max_waiting=1) as (_, address),
        Client(address, SECONDS * 3) as client,
        ThreadPoolExecutor(6) as threads,
    ):
        flights = [threads.submit(client.fetch, phantom(seed)) for seed in range(6)]
        for seed, flight in enumerate(flights):
            assert_same(flight.result(SECONDS * 3), made_directly(phantom(seed)))
        status = client.status()
    assert status.refused > 0
    assert status.fetched == status.generated == 6


def test_a_client_that_is_put_off_too_long_hears_that_the_queue_is_full() -> None:
    generator = Gated()
    with (
        served(Engine(generator), max_waiting=1) as (_, address),
        Client(address) as one,
        Client(address, 1.0) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        first = threads.submit(one.fetch, phantom(1))
        assert generator.begun.wait(SECONDS)
        with pytest.raises(FetchTimeout, match="the queue of the server is full"):
            other.fetch(phantom(2))
        generator.gate.set()
        first.result(SECONDS)


def test_another_generator_at_a_known_address_is_noticed() -> None:
    class Retrained(Gated):
        @property
        def card(self) -> VariantCard:
            return replace(self.phantom.card, weights_digest="0" * 64)

    with private_directory() as directory:
        path = directory / "socket"
        with Client(f"{PREFIX}{path}") as client:
            with served(Engine(PhantomGenerator()), path=path):
                client.stats()
            with (
                served(Engine(Retrained()), path=path),
                pytest.raises(SourceError, match="is another than before: `phantom`"),
            ):
                client.stats()


def test_a_canary_goes_on_for_the_others_when_one_of_its_askers_leaves() -> None:
    generator = Gated()
    with (
        served(Engine(generator)) as (server, address),
        Client(address) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        server.engine.submit(phantom(0))
        assert generator.begun.wait(SECONDS)
        with Client(address, 0.3) as leaving:
            waiting = threads.submit(other.prove)
            with pytest.raises(FetchTimeout):
                leaving.prove()
        generator.gate.wait(1.0)  # a server looks five times a second
        generator.gate.set()
        waiting.result(SECONDS)
