"""Pool: the makers of a cluster, and which of them makes what; one for all programs that ask."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Event
from asyncio import Task
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import ray
from ray.exceptions import RayActorError
from ray.exceptions import RayError

from ...errors import ServerDied
from ...source import SourceStats
from ..dispatch import Dispatch
from ..restarts import Patience
from ..retries import MOST_DEATHS
from .maker import Head
from .maker import Maker
from .maker import failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# One volume in work and the next at hand; requests for the same volume come on top.
DEPTH = 2
CALLS_AT_ONCE = 64
MOST_AHEAD = 1024
SECONDS_BETWEEN_LOOKS = 5.0

_log = logging.getLogger(__name__)


@final
class Pool:
    """An actor that hands specs to makers. Voxels do not pass through it.

    A maker whose process or machine dies is started again by Ray, wherever there is room;
    what it had in work goes to another one. One whose job makes no progress is killed.

    Args:
        factory: As `Maker` takes it.
        arguments: Likewise.
        makers: How many.
        resources: What each needs, as `ray.remote` takes it: `num_gpus`, `num_cpus`.
        patience: What is borne of a maker, as JSON.
    """

    def __init__(
        self, factory: str, arguments: str, makers: int, resources: dict[str, Any], patience: str
    ) -> None:
        actor: Any = ray.remote(Maker)
        kind = actor.options(
            max_restarts=-1,
            max_concurrency=CALLS_AT_ONCE,
            scheduling_strategy="SPREAD",
            **resources,
        )
        self._makers = [kind.remote(factory, arguments) for _ in range(makers)]
        self._patience = Patience.from_json(patience)
        self._dispatch = Dispatch(makers, DEPTH)
        self._blobs: dict[str, tuple[Any, list[list[float]]]] = {}
        self._ahead: OrderedDict[str, str] = OrderedDict()
        self._has_ahead = Event()
        self._first: Head | None = None
        self._has_first = Event()
        self._tasks: set[Task[None]] = set()
        self._deaths = 0
        self._machines: dict[int, str] = {}

    async def begin(self) -> Head:
        """The card of the variant, once the first maker has made a canary, or why none can."""
        if not self._tasks:
            for number in range(len(self._makers)):
                self._start(self._bring_up(number))
            self._start(self._work_ahead())
            self._start(self._look_after())
        await self._has_first.wait()
        assert self._first is not None
        return self._first

    async def resolve(self, spec: str) -> Head:
        """What a maker said of a spec; they all have the same bank of masks."""
        while True:
            number = await self._dispatch.one_up()
            try:
                said: Head = await self._makers[number].resolve.remote(spec)
                return said
            except RayActorError as error:
                await self._lost(number, error)

    async def make(
        self, key: str, spec: str, crop: str | None, wants_voxels: bool
    ) -> tuple[Head, list[Any]]:
        """What a maker said of a volume, and where its voxels lie."""
        self._ahead.pop(key, None)
        deaths = 0
        while True:
            number = await self._dispatch.take(key)
            two = self._makers[number].make.options(num_returns=2)
            try:
                said, voxels = two.remote(spec, crop, wants_voxels)
                return await said, [voxels]
            except RayActorError as error:
                await self._lost(number, error)
                deaths += 1
                if deaths == MOST_DEATHS:
                    msg = (
                        f"volume {key[:12]} was begun {MOST_DEATHS} times, and its maker died on it"
                    )
                    return failure(ServerDied(msg)), []
            finally:
                await self._dispatch.give_back(key, number)

    async def prefetch(self, specs: dict[str, str]) -> None:
        """Make these by key, when nobody waits for anything else; the farthest are dropped."""
        for key, spec in specs.items():
            self._ahead.setdefault(key, spec)
        while len(self._ahead) > MOST_AHEAD:
            self._ahead.popitem()
        if self._ahead:
            self._has_ahead.set()

    async def put(self, array: NDArray[np.generic], affine: list[list[float]]) -> Head:
        """Keep an array of a caller at every maker, also at those that are started again."""
        place = ray.put(array)
        said: Head = {}
        for number in self._dispatch.up:
            try:
                said = await self._makers[number].put.remote(place, affine)
            except RayActorError as error:
                await self._lost(number, error)
                continue
            if "error" in said:
                return said
        if not said:
            return failure(ServerDied("no maker of the pool is up; put the array again"))
        self._blobs[said["digest"]] = (place, affine)
        return said

    async def figures(self) -> dict[str, Any]:
        """The fields of `SourceStats`, summed over the makers that are up; what those are."""
        up = self._dispatch.up
        total = SourceStats()
        for number in up:
            try:
                values, _, _ = await self._makers[number].figures.remote()
            except RayActorError as error:
                await self._lost(number, error)
                continue
            total += SourceStats(**values)
        machines = {self._machines[number] for number in up}
        state = {"makers": len(up), "machines": len(machines), "deaths": self._deaths}
        return {**asdict(total), **state}

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_up(self, number: int) -> None:
        """Wait until a maker has made its canary, however often its process dies before."""
        pause = self._patience.first_delay
        while True:
            try:
                said: Head = await self._makers[number].begin.remote()
                if "error" not in said:
                    for place, affine in list(self._blobs.values()):
                        await self._makers[number].put.remote(place, affine)
                break
            except RayError as error:
                _log.warning("maker %d is not there yet: %s", number, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.most_delay)
        if "error" in said:
            _log.error("maker %d cannot generate: %s", number, said["text"])
        else:
            self._machines[number] = said["machine"]
            await self._dispatch.found(number)
        if self._first is None:
            self._first = said
            self._has_first.set()

    async def _lost(self, number: int, error: RayActorError) -> None:
        if await self._dispatch.lost(number):
            self._deaths += 1
            _log.warning("maker %d died and is started again: %s", number, error)
            self._start(self._bring_up(number))

    async def _work_ahead(self) -> None:
        while True:
            await self._has_ahead.wait()
            await self._dispatch.idle()
            if not self._ahead:
                self._has_ahead.clear()
                continue
            key, spec = self._ahead.popitem(last=False)
            number = await self._dispatch.take(key)
            self._start(self._make_ahead(key, spec, number))

    async def _make_ahead(self, key: str, spec: str, number: int) -> None:
        try:
            # It joins the place that is held for it already.
            await self.make(key, spec, None, wants_voxels=False)
        finally:
            await self._dispatch.give_back(key, number)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            for number in self._dispatch.up:
                try:
                    look = self._makers[number].figures.remote()
                    _, silent, longest = await asyncio.wait_for(look, self._patience.silence)
                except RayActorError as error:
                    await self._lost(number, error)
                    continue
                except TimeoutError:
                    silent, longest = self._patience.hang, 0.0
                if silent >= max(self._patience.hang, 5 * longest):
                    _log.warning("maker %d made no progress for %.0f s", number, silent)
                    ray.kill(self._makers[number], no_restart=False)
