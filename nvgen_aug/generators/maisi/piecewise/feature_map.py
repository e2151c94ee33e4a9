"""FeatureMap: what is known of one layer's output at the moment, as planes along x."""

from __future__ import annotations

from typing import Generic
from typing import Protocol
from typing import Self
from typing import TypeVar
from typing import final

from .spans import Box
from .spans import Span


class Piece(Protocol):
    """Planes of a feature map, `[1, C, planes, y, z]`: a tensor, or what stands for one."""

    @property
    def nbytes(self) -> int: ...

    def size(self, dim: int, /) -> int:
        """Its extent along an axis."""

    def narrow(self, dim: int, start: int, length: int, /) -> Self:
        """A view of a part of it along an axis."""


P = TypeVar("P", bound=Piece)


@final
class FeatureMap(Generic[P]):
    """Pieces of one feature map, side by side along x; those that nobody needs are let go.

    Args:
        box: What is wanted of the map.
        readers: Numbers of the steps that read it.
    """

    __slots__ = ("_floors", "_pieces", "box", "end", "nbytes", "readers")

    def __init__(self, box: Box, readers: frozenset[int]) -> None:
        self.box = box
        self.readers = readers
        self._pieces: list[tuple[Span, P]] = []
        self._floors: dict[int, int] = {}
        self.end = box[0][0]  # the first plane that has not been made
        self.nbytes = 0  # of the pieces that are here

    def begin(self, readers: frozenset[int]) -> None:
        """Keep everything until each of these steps has said what it is done with."""
        self._floors = dict.fromkeys(readers, self.box[0][0])

    def clear(self) -> None:
        """Let go of everything; the next planes to come are the first ones again."""
        self._pieces.clear()
        self.end, self.nbytes = self.box[0][0], 0

    def add(self, piece: P) -> None:
        """Take the next planes."""
        low, self.end = self.end, self.end + piece.size(2)
        self._pieces.append(((low, self.end), piece))
        self.nbytes += piece.nbytes

    def views(self, box: Box) -> list[P]:
        """Views that, side by side along x, are a box of the map."""
        found = []
        for (low, high), piece in self._pieces:
            first, last = max(low, box[0][0]), min(high, box[0][1])
            if first >= last:
                continue
            view = piece.narrow(2, first - low, last - first)
            for axis in (1, 2):
                begin, end = box[axis]
                view = view.narrow(axis + 2, begin - self.box[axis][0], end - begin)
            found.append(view)
        return found

    def release(self, reader: int, floor: int) -> None:
        """A reader needs nothing below `floor` any more; what no reader needs is let go."""
        if reader not in self._floors:
            return
        self._floors[reader] = floor
        lowest = min(self._floors.values())
        while self._pieces and self._pieces[0][0][1] <= lowest:
            self.nbytes -= self._pieces.pop(0)[1].nbytes
