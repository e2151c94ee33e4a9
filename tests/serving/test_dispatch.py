"""Which of several generators makes which volume."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from nvgen_aug.serving.dispatch import Dispatch


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def among(generators: int, depth: int = 2) -> Dispatch:
    dispatch = Dispatch(generators, depth)
    for number in range(generators):
        await dispatch.found(number)
    return dispatch


async def waits(work: Coroutine[Any, Any, int]) -> asyncio.Task[int]:
    """The task, after it has had every chance to end."""
    task = asyncio.ensure_future(work)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def test_different_volumes_go_where_fewest_are() -> None:
    async def story() -> None:
        dispatch = await among(2)
        assert [await dispatch.take(key) for key in "abcd"] == [0, 1, 0, 1]

    run(story())


def test_all_who_want_one_volume_go_to_one_generator_and_share_its_place() -> None:
    async def story() -> None:
        dispatch = await among(2, depth=1)
        assert {await dispatch.take("a") for _ in range(5)} == {0}
        assert await dispatch.take("b") == 1
        third = await waits(dispatch.take("c"))
        for _ in range(5):
            await dispatch.give_back("a", 0)
        assert await third == 0

    run(story())


def test_who_finds_no_place_waits_for_one() -> None:
    async def story() -> None:
        dispatch = await among(1, depth=2)
        await dispatch.take("a")
        await dispatch.take("b")
        task = await waits(dispatch.take("c"))
        await dispatch.give_back("a", 0)
        assert await task == 0

    run(story())


def test_a_volume_that_was_made_lately_goes_back_to_its_generator() -> None:
    async def story() -> None:
        dispatch = await among(2)
        for key in "ab":
            await dispatch.give_back(key, await dispatch.take(key))
        await dispatch.take("c")
        assert await dispatch.take("a") == 0

    run(story())


def test_what_a_lost_generator_had_goes_to_another_one() -> None:
    async def story() -> None:
        dispatch = await among(2)
        assert await dispatch.take("a") == 0
        assert await dispatch.lost(0)
        assert not await dispatch.lost(0)
        assert await dispatch.take("a") == 1
        await dispatch.give_back("a", 0)  # of the one that was lost, which changes nothing
        assert dispatch.up == {1}
        await dispatch.found(0)
        assert [await dispatch.take(key) for key in "bcd"] == [0, 0, 1]

    run(story())


def test_nobody_is_idle_before_what_is_in_work_is_done() -> None:
    async def story() -> None:
        dispatch = await among(1)
        await asyncio.wait_for(dispatch.idle(), 1)
        await dispatch.take("a")
        task = asyncio.ensure_future(dispatch.idle())
        await asyncio.sleep(0)
        assert not task.done()
        await dispatch.give_back("a", 0)
        await asyncio.wait_for(task, 1)

    run(story())
