"""Dispatch: which of several generators makes which volume, and how many wait at each."""

from __future__ import annotations

from asyncio import Condition
from collections import OrderedDict
from dataclasses import dataclass
from typing import final

REMEMBERED = 4096


@final
@dataclass(slots=True)
class _Flight:
    generator: int
    users: int


@final
class Dispatch:
    """Places at generators, which are numbered from 0, and who holds them.

    All users of one volume share one place, so that its generator can join them. A
    volume that was made lately goes back to its generator, which may still have it at
    hand; any other one goes where fewest are. It lives in one event loop.

    Args:
        generators: How many there are; none can be used before `found`.
        depth: Volumes that may be at one generator at a time: one in work, and the next.
    """

    def __init__(self, generators: int, depth: int) -> None:
        self._load = dict.fromkeys(range(generators), 0)
        self._up: set[int] = set()
        self._depth = depth
        self._flights: dict[str, _Flight] = {}
        self._home: OrderedDict[str, int] = OrderedDict()
        self._changed = Condition()

    @property
    def up(self) -> frozenset[int]:
        """Generators that can be used now."""
        return frozenset(self._up)

    async def take(self, key: str) -> int:
        """The generator that is to make a volume, once there is a place at it."""
        async with self._changed:
            while (generator := self._choice(key)) is None:
                await self._changed.wait()
            flight = self._flights.setdefault(key, _Flight(generator, 0))
            self._load[generator] += flight.users == 0
            flight.users += 1
            self._home[key] = generator
            self._home.move_to_end(key)
            while len(self._home) > REMEMBERED:
                self._home.popitem(last=False)
            return generator

    async def give_back(self, key: str, generator: int) -> None:
        """A user of a volume has its answer, or none is to come."""
        async with self._changed:
            flight = self._flights.get(key)
            if flight is None or flight.generator != generator:
                return  # it was lost, and the place with it
            flight.users -= 1
            if not flight.users:
                del self._flights[key]
                self._load[generator] -= 1
            self._changed.notify_all()

    async def idle(self) -> None:
        """Wait for a generator that has nothing to do."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(not self._load[n] for n in self._up))

    async def one_up(self) -> int:
        """A generator that can be used, busy or not, once there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._up)
            return min(self._up)

    async def lost(self, generator: int) -> bool:
        """A generator is gone, and what it had with it; false if that was known."""
        async with self._changed:
            if generator not in self._up:
                return False
            self._up.discard(generator)
            self._load[generator] = 0
            for key in [k for k, f in self._flights.items() if f.generator == generator]:
                del self._flights[key]
            return True

    async def found(self, generator: int) -> None:
        """A generator can be used, for the first time or again."""
        async with self._changed:
            self._up.add(generator)
            self._changed.notify_all()

    def _choice(self, key: str) -> int | None:
        if key in self._flights:
            return self._flights[key].generator
        home = self._home.get(key)
        if home in self._up:
            return home
        free = [n for n in sorted(self._up) if self._load[n] < self._depth]
        return min(free, key=self._load.__getitem__, default=None)
