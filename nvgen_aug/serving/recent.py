"""Recent: the last few things that passed through, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic
from typing import TypeVar
from typing import final

T = TypeVar("T")


@final
class Recent(Generic[T]):
    """Things by name, the least recently used leaving first. Not safe between threads.

    The newest is kept even if it alone is over the bound, since somebody is about to ask for it.
    """

    __slots__ = ("_bytes", "_items", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def get(self, name: str) -> T | None:
        """The thing of this name, or `None`."""
        if name not in self._items:
            return None
        self._items.move_to_end(name)
        return self._items[name][0]

    def put(self, name: str, thing: T, nbytes: int) -> None:
        """Keep a thing, and let go of the oldest until the rest fits."""
        if name in self._items:
            self._bytes -= self._items.pop(name)[1]
        self._items[name] = (thing, nbytes)
        self._bytes += nbytes
        while self._bytes > self._max_bytes and len(self._items) > 1:
            _, (_, freed) = self._items.popitem(last=False)
            self._bytes -= freed

    def exchange(self, name: str, thing: T, other: T) -> None:
        """Put another thing of the same size in the place of one, if that is still here."""
        item = self._items.get(name)
        if item is not None and item[0] is thing:
            self._items[name] = (other, item[1])

    def oldest_first(self) -> list[tuple[str, T]]:
        """Names and things, the least recently used first."""
        return [(name, thing) for name, (thing, _) in self._items.items()]

    def nbytes_of(self, names: set[str]) -> int:
        """Bytes of those of these names that are still here."""
        return sum(self._items[name][1] for name in names if name in self._items)
