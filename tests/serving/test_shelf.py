"""Volumes that are made in the ring: what clients see, and for how long nobody writes over it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import conversation
from nvgen_aug.serving import messages as m
from nvgen_aug.serving.client import Client
from nvgen_aug.serving.connection import Connection
from nvgen_aug.serving.connection import Pool
from nvgen_aug.serving.engine import Engine
from nvgen_aug.serving.ring import Ring
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import served

SLOT = 1 << 17  # more than a phantom of 32³ with its label


def half_way(address: str, seed: int) -> tuple[Connection, m.Voxels]:
    """A client that was told where its volume lies, and has not said that it has it."""
    connection = Connection(address, Pool())
    connection.send(m.Fetch(1, phantom(seed).to_json(), None, SECONDS))
    return connection, connection._receive(m.Voxels, 1)


def test_a_volume_is_made_where_clients_see_it_and_copied_nowhere(monkeypatch) -> None:
    monkeypatch.delattr(conversation, "gather")
    engine = Engine(PhantomGenerator())
    with served(engine, Ring(4, SLOT)) as (server, address), Client(address) as client:
        for _ in range(2):
            assert_same(client.fetch(phantom(1)), made_directly(phantom(1)))
        kept = engine.submit(phantom(1)).result()
        slot = server.shelf.slot_of(kept)
        assert slot is not None
        assert server.ring.slot(slot)[0] == kept.image.view(np.uint8).ravel()[0]
        with pytest.raises(ValueError, match="read-only"):
            kept.image[:] = 0


def test_volumes_that_are_no_longer_kept_there_arrive_as_before() -> None:
    engine = Engine(PhantomGenerator())
    with served(engine, Ring(4, SLOT)) as (server, address), Client(address) as client:
        for seed in [*range(7), *range(7)]:
            assert_same(client.fetch(phantom(seed)), made_directly(phantom(seed)))
        kept = [server.shelf.slot_of(engine.submit(phantom(n)).result()) for n in range(7)]
        assert [slot is not None for slot in kept] == [False] * 5 + [True] * 2
        assert engine.stats().generated == 7


def test_what_a_client_reads_is_not_written_over_however_much_is_made_meanwhile() -> None:
    # Memory for one volume: each new one drives out the last.
    engine = Engine(PhantomGenerator(), memory_bytes=1)
    with served(engine, Ring(3, SLOT)) as (server, address):
        slow, voxels = half_way(address, 1)
        with Client(address) as client:
            for seed in range(2, 7):
                assert_same(client.fetch(phantom(seed)), made_directly(phantom(seed)))
        seen = slow._ring.slot(voxels.slot)[: voxels.length]
        expected = made_directly(phantom(1))
        assert expected.label is not None
        assert seen.tobytes() == expected.image.tobytes() + expected.label.tobytes()
        assert server.ring.wait_until_free(2, SECONDS)
        assert server.ring.free == 2
        slow.close()
        assert server.ring.wait_until_free(3, SECONDS)


def test_many_clients_of_one_volume_read_one_slot() -> None:
    with served(Engine(PhantomGenerator()), Ring(3, SLOT)) as (_, address):
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: half_way(address, 1), range(6)))
        assert len({voxels.slot for _, voxels in found}) == 1
        for connection, _ in found:
            connection.close()


def test_a_part_of_a_volume_on_the_shelf_is_that_part() -> None:
    crop = Crop((2, 0, 0), (4, 20, 24))  # its voxels lie in order within the whole
    with (
        served(Engine(PhantomGenerator()), Ring(4, SLOT)) as (_, address),
        Client(address) as client,
    ):
        client.fetch(phantom(1))
        assert_same(client.fetch(phantom(1), crop), made_directly(phantom(1)).cropped(crop))


def test_a_volume_outlives_the_server_in_whose_ring_it_was_made() -> None:
    with served(Engine(PhantomGenerator()), Ring(4, SLOT)) as (server, address):
        with Client(address) as client:
            client.fetch(phantom(1))
        kept = server.engine.submit(phantom(1)).result()
        assert server.shelf.slot_of(kept) is not None
    assert_same(kept, made_directly(phantom(1)))
