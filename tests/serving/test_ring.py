"""The ring: sealed, read-only for clients, leased and given back."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from nvgen_aug.errors import SourceError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import ring as r
from tests.serving.doubles import SECONDS

PAGE = mmap.PAGESIZE


@pytest.fixture
def ring() -> Iterator[r.Ring]:
    made = r.Ring(2, PAGE)
    yield made
    made.close()


def test_a_client_sees_what_the_server_writes(ring: r.Ring) -> None:
    view = r.RingView(ring.fd, ring.name, 2, PAGE)
    ring.slot(1)[:3] = [1, 2, 3]
    assert view.slot(1)[:4].tolist() == [1, 2, 3, 0]


def test_a_client_cannot_write(ring: r.Ring) -> None:
    view = r.RingView(ring.fd, ring.name, 2, PAGE)
    with pytest.raises(ValueError, match="read-only"):
        view.slot(0)[0] = 1
    with pytest.raises(PermissionError):
        mmap.mmap(ring.fd, 2 * PAGE)
    with pytest.raises(PermissionError):
        os.write(ring.fd, b"x")


def test_its_size_is_sealed(ring: r.Ring) -> None:
    for size in (PAGE, 3 * PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fd, size)


def test_a_client_refuses_memory_of_another_size_or_without_seals(ring: r.Ring) -> None:
    with pytest.raises(SourceError, match="expected"):
        r.RingView(ring.fd, ring.name, 3, PAGE)
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, PAGE)
    with pytest.raises(SourceError, match="not sealed"):
        r.RingView(fd, "x", 1, PAGE)
    os.close(fd)


def lease(ring: r.Ring, content: str) -> tuple[int, bool]:
    with ring.lease(content) as leased:
        return leased


def test_what_lies_in_a_slot_is_found_again_until_the_slot_is_needed(ring: r.Ring) -> None:
    first, _ = lease(ring, "a")
    assert lease(ring, "b") == (1 - first, False)
    assert lease(ring, "a") == (first, True)
    assert lease(ring, "c") == (1 - first, False)
    assert lease(ring, "b") == (first, False)


def test_a_slot_without_a_name_is_never_found_again(ring: r.Ring) -> None:
    assert [lease(ring, "")[1] for _ in range(4)] == [False] * 4


def test_a_slot_that_was_left_half_filled_is_not_found_again(ring: r.Ring) -> None:
    with pytest.raises(KeyError), ring.lease("a"):
        raise KeyError
    assert [lease(ring, "a")[1] for _ in range(2)] == [False, True]


def test_two_who_want_the_same_at_once_do_not_share_a_slot(ring: r.Ring) -> None:
    lease(ring, "a")
    with ring.lease("a") as one, ring.lease("a") as other:
        assert (one[1], other[1]) == (True, False)
        assert one[0] != other[0]


def test_a_slot_is_waited_for_and_comes_back_whatever_happens(ring: r.Ring) -> None:
    has_third = threading.Event()

    def third() -> None:
        with ring.lease():
            has_third.set()

    thread = threading.Thread(target=third)

    def hold_both_and_fail() -> None:
        with ring.lease() as one, ring.lease() as other:
            assert {one[0], other[0]} == {0, 1}
            thread.start()
            assert not has_third.is_set()
            raise KeyError

    with pytest.raises(KeyError):
        hold_both_and_fail()
    assert has_third.wait(SECONDS)
    thread.join()
    assert ring.free == 2


@pytest.mark.parametrize("slot", [1, 3, 5, 100])
def test_pieces_of_any_size_put_the_parts_together_again(slot: int) -> None:
    rng = np.random.default_rng(0)
    sent = [rng.integers(0, 255, size, dtype=np.uint8) for size in (7, 4)]
    came = [np.zeros_like(part) for part in sent]
    for offset in range(0, 11, slot):
        piece = np.empty(min(slot, 11 - offset), np.uint8)
        r.gather(sent, offset, piece)
        r.scatter(piece, offset, came)
    for one, other in zip(sent, came, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_slot_holds_a_volume_of_the_default_size_within_bounds() -> None:
    card = PhantomGenerator().card
    for edge in (8, 64, 256, 512):
        slots, slot_bytes = r.slots_for(replace(card, default_size=(edge, edge, edge)))
        assert 2 <= slots <= r.MAX_SLOTS
        assert slots * slot_bytes <= r.MAX_RING_BYTES
        assert slot_bytes % PAGE == 0
        assert slot_bytes >= min(3 * edge**3, r.MAX_SLOT_BYTES)


def test_memory_that_is_held_is_nobody_elses_until_its_last_view_is_gone(ring: r.Ring) -> None:
    memory = ring.hold(100)
    assert memory is not None
    slot = ring.slot_of(memory)
    assert slot is not None
    part = memory[10:20].view(np.int16)
    del memory
    assert ring.hold(100) is None  # the other slot is for leases
    assert {lease(ring, "")[0] for _ in range(3)} == {1 - slot}
    part[:] = 7
    assert ring.slot(slot)[10] == 7
    del part
    assert {lease(ring, "")[0] for _ in range(2)} == {0, 1}
    assert ring.hold(100) is not None


def test_what_was_held_is_not_taken_for_what_lay_there_before(ring: r.Ring) -> None:
    lease(ring, "a")
    lease(ring, "b")
    assert ring.hold(PAGE) is not None  # and let go at once
    assert [lease(ring, "b")[1], lease(ring, "a")[1]] == [True, False]


def test_more_than_a_slot_cannot_be_held(ring: r.Ring) -> None:
    assert ring.hold(PAGE + 1) is None


def test_a_ring_that_was_closed_gives_nothing_and_leaves_what_is_held() -> None:
    ring = r.Ring(2, PAGE)
    memory = ring.hold(8)
    assert memory is not None
    memory[:] = 5
    ring.close()
    assert ring.hold(8) is None
    assert memory.tolist() == [5] * 8


def test_a_slot_is_not_free_while_a_client_reads_what_is_kept_there(ring: r.Ring) -> None:
    memory = ring.hold(8)
    assert memory is not None
    slot = ring.slot_of(memory)
    assert slot is not None
    assert ring.free == 2
    with ring.showing(slot), ring.showing(slot):
        assert ring.free == 1
    assert ring.free == 2
