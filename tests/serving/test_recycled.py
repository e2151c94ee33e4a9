"""Memory that serves one array after the other."""

from __future__ import annotations

import os

import numpy as np
import torch

from nvgen_aug.serving.recycled import LEAST_BYTES
from nvgen_aug.serving.recycled import Recycled

SIZE = LEAST_BYTES


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again_once_its_array_is_gone() -> None:
    recycled = Recycled()
    first = recycled.empty(SIZE)
    where = place(first)
    del first
    assert place(recycled.empty(SIZE)) == where


def test_two_arrays_at_a_time_never_share_memory() -> None:
    recycled = Recycled()
    first, second = recycled.empty(SIZE), recycled.empty(SIZE)
    assert not np.shares_memory(first, second)


def test_a_view_keeps_the_memory_of_an_array_that_is_gone() -> None:
    recycled = Recycled()
    view = recycled.empty(SIZE).view(np.int16).reshape(2, -1)[1, 5:]
    view[:] = 7
    assert recycled.free_bytes == 0
    recycled.empty(SIZE)[:] = 1
    assert (view == 7).all()


def test_a_tensor_keeps_the_memory_of_an_array_that_is_gone() -> None:
    recycled = Recycled()
    tensor = torch.from_numpy(recycled.empty(SIZE))[5:].fill_(7)
    recycled.empty(SIZE)[:] = 1
    assert bool((tensor == 7).all())
    del tensor
    assert recycled.free_bytes == 2 * SIZE


def test_no_more_is_kept_than_the_bound() -> None:
    recycled = Recycled(kept_bytes=2 * SIZE)
    arrays = [recycled.empty(SIZE) for _ in range(4)]
    del arrays
    assert recycled.free_bytes == 2 * SIZE


def test_a_block_serves_no_array_of_a_much_smaller_size() -> None:
    recycled = Recycled()
    large = recycled.empty(2 * SIZE)
    del large
    recycled.empty(SIZE)
    assert recycled.free_bytes == 3 * SIZE


def test_small_arrays_are_left_to_the_c_library() -> None:
    recycled = Recycled()
    recycled.empty(SIZE - 1)
    assert recycled.free_bytes == 0


def test_a_forked_child_does_not_write_into_its_parents_array() -> None:
    array = Recycled().empty(SIZE)
    array[:] = 1
    child = os.fork()
    if child == 0:
        array[:] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert (array == 1).all()
