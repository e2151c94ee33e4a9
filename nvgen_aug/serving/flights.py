"""Flight: one volume on its way, and everybody who waits for it."""

from __future__ import annotations

from collections import OrderedDict
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import field
from time import monotonic
from typing import final

from ..crop import Crop
from ..crop import CropRule
from ..spec import VolumeSpec
from ..volume import SyntheticVolume


@final
@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One caller: where the answer goes, which part is wanted, and since when (monotonic)."""

    future: Future[SyntheticVolume]
    crop: Crop | CropRule | None
    since: float = field(default_factory=monotonic)


@final
@dataclass(slots=True, eq=False)
class Flight:
    """One resolved spec that is queued or being made.

    Args:
        key: Volume key of the spec.
        spec: The resolved spec.
        waiters: Who wants it; empty if it is made ahead of need.
        has_begun: Whether the generator works on it now.
    """

    key: str
    spec: VolumeSpec
    waiters: list[Waiter] = field(default_factory=list)
    has_begun: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether a caller still waits: all may have gone away."""
        return any(not waiter.future.cancelled() for waiter in self.waiters)


@final
class FlightQueue:
    """Flights in the order they will be made; each key is here once. Not safe between threads.

    What somebody waits for goes before what is made ahead, and clients take turns: one
    that asks for a hundred volumes delays another by one volume, not by a hundred.

    Args:
        max_ahead: Flights that may queue without anybody waiting for them.
    """

    __slots__ = ("_ahead", "_by_client", "_by_key", "_max_ahead")

    def __init__(self, max_ahead: int = 256) -> None:
        self._max_ahead = max_ahead
        self._by_key: dict[str, Flight] = {}
        self._by_client: OrderedDict[Hashable, deque[Flight]] = OrderedDict()
        self._ahead: OrderedDict[str, Flight] = OrderedDict()

    def __len__(self) -> int:
        return sum(not flight.has_begun for flight in self._by_key.values())

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def add(self, key: str, spec: VolumeSpec, waiter: Waiter, client: Hashable) -> bool:
        """Queue a fetch; whether it joined one that others wait for or that is being made."""
        flight = self._by_key.get(key)
        if flight is None:
            flight = self._by_key[key] = Flight(key, spec)
        has_joined = flight.has_begun or flight.is_wanted
        was_queued = bool(flight.waiters)
        flight.waiters.append(waiter)
        if not flight.has_begun and not was_queued:
            self._ahead.pop(key, None)
            self._by_client.setdefault(client, deque()).append(flight)
        return has_joined

    def add_ahead(self, key: str, spec: VolumeSpec) -> bool:
        """Queue a volume that nobody waits for yet; `False` if there is no room."""
        if key in self._by_key:
            return True
        if len(self._ahead) >= self._max_ahead:
            return False
        self._by_key[key] = self._ahead[key] = Flight(key, spec)
        return True

    def pop(self, *, ahead: bool = True) -> Flight | None:
        """The next flight to make, or `None`; those that all waiters left are dropped.

        Args:
            ahead: Whether a flight may be taken that nobody waits for.
        """
        while self._by_client:
            client, flights = next(iter(self._by_client.items()))
            flight = flights.popleft()
            self._by_client.pop(client)
            if flights:  # to the end of the round
                self._by_client[client] = flights
            if flight.is_wanted:
                flight.has_begun = True
                return flight
            del self._by_key[flight.key]
        if not ahead or not self._ahead:
            return None
        _, flight = self._ahead.popitem(last=False)
        flight.has_begun = True
        return flight

    def finish(self, flight: Flight) -> list[Waiter]:
        """Take a flight off the list; who joined it until now."""
        del self._by_key[flight.key]
        return flight.waiters

    def clear(self) -> list[Waiter]:
        """Take everything off the list that has not begun; who waited for it."""
        left = [flight for flight in self._by_key.values() if not flight.has_begun]
        for flight in left:
            del self._by_key[flight.key]
        self._by_client.clear()
        self._ahead.clear()
        return [waiter for flight in left for waiter in flight.waiters]
