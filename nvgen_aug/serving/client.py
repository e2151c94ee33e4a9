"""Client: a volume source that asks a resident server, from any process."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import FetchTimeout
from ..errors import SourceError
from ..source import SourceStats
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import SyntheticVolume
from . import messages as m
from . import wire
from .connection import PREFIX
from .connection import Pool
from .connection import Turn
from .engine import checked_blob
from .retries import persistently
from .ring import flat
from .status import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

M = TypeVar("M", bound=m.Message)

SECONDS_FOR_ADVICE = 2.0

_requests = count(1)


@final
class Client(VolumeSource):
    """What datasets hold of a server: an address, which can be pickled and forked.

    Connections and the mapped ring belong to the process that opened them: another
    process drops them unread and opens its own on first use. Threads of one process
    each take a connection of their own, so there is no lock that a fork could break.

    Args:
        address: `unix:` and the path of the server's socket.
        timeout: Seconds to wait for one volume.

    Raises:
        SourceError: if the address is of another kind.
    """

    __slots__ = ("_others", "_pools", "address", "timeout")

    def __init__(self, address: str, timeout: float = 600.0) -> None:
        if not address.startswith(PREFIX) or len(address) == len(PREFIX):
            msg = f"the address of a server is `unix:` and a path, got {address!r}"
            raise SourceError(msg)
        if not timeout > 0:
            msg = f"timeout must be > 0 seconds, got {timeout!r}"
            raise SourceError(msg)
        self.address = address
        self.timeout = float(timeout)
        self._pools: dict[int, Pool] = {}
        # By address: of a server with several generators, those that are not at ours.
        self._others: dict[str, Client] = {}

    @property
    def card(self) -> VariantCard:
        """What the server said of its variant when it was first reached."""
        return self._card(self.timeout)

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults filled in, and a mask if the server has a bank.

        Raises:
            SpecError: if the variant cannot make it, or no mask of the bank fits.
        """
        return self._resolved(spec, self.timeout)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it, in arrays of the caller's own.

        Raises:
            FetchTimeout: if it was not there within `timeout` seconds.
            ServerDied: if the server went away meanwhile and is not replaced; one that is
                replaced is asked again.
            ServerUnavailable: if there is no server.
            SpecError, GenerationError: as the server's engine raised them.
        """
        resolved = self.resolve(spec)
        key = self.card.volume_key(resolved)
        member = self._member(key)
        request = next(_requests)
        text, box = resolved.to_json(), wire.crop_to_json(crop)
        what = f"volume {key[:12]} (seed {resolved.seed})"

        def ask(seconds: float) -> SyntheticVolume:
            with member._turn(what, seconds) as connection:
                connection.send(m.Fetch(request, text, box, max(seconds, 0.0)))
                return connection.receive_volume(request, key)

        return persistently(ask, self.timeout, what, member.address)

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Hand over an array of the caller, `[X, Y, Z]`; its digest goes into specs."""
        blob = checked_blob(array, affine)
        if blob.array.nbytes > m.MAX_PUT_BYTES:
            msg = f"an array may have {m.MAX_PUT_BYTES} bytes, this one has {blob.array.nbytes}"
            raise SourceError(msg)
        for member in self._members():
            member._hand_over(blob)
        return blob.digest()

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Tell the server what comes next; it answers at once and begins when it is free.

        That is advice: one that cannot be told so now is not waited for.
        """
        seconds = min(self.timeout, SECONDS_FOR_ADVICE)
        with suppress(FetchTimeout):
            card, texts = self._card(seconds), dict[Client, list[str]]()
            for given in specs[: m.SPECS_PER_FRAME]:
                spec = self._resolved(given, seconds)
                texts.setdefault(self._member(card.volume_key(spec)), []).append(spec.to_json())
            for member, theirs in texts.items():
                with suppress(FetchTimeout):
                    question = m.Prefetch(next(_requests), tuple(theirs))
                    member._talk(question, m.Done, seconds=seconds)

    def stats(self) -> SourceStats:
        """What the server has done so far, for all its clients."""
        total = SourceStats()
        for member in self._members():
            said = member._talk(m.AskStats(next(_requests)), m.Stats).values
            total += SourceStats(**json.loads(said))
        return total

    def close(self) -> None:
        """Hang up; a later call connects anew."""
        pool = self._pool()
        while pool.idle:
            pool.idle.pop().close()
        self._pools.clear()
        for other in self._others.values():
            other.close()

    def __reduce__(self) -> tuple[type[Client], tuple[str, float]]:
        return Client, (self.address, self.timeout)

    def __copy__(self) -> Client:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return self

    def __del__(self) -> None:
        if hasattr(self, "_pools"):
            self.close()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the server's generators, one for each of its devices; this address among them."""
        return tuple(member.address for member in self._members())

    def status(self) -> Status:
        """What the generator at this address says of itself."""
        return Status.from_json(self._talk(m.AskStatus(next(_requests)), m.Report).text)

    def metrics(self) -> str:
        """The same in the text form of Prometheus."""
        return self._talk(m.AskMetrics(next(_requests)), m.Report).text

    def prove(self) -> None:
        """Have the server show that it can generate, unless it has done so just now.

        Raises:
            NvgenError: whatever keeps it from doing so.
        """
        for member in self._members():
            member._talk(m.Prove(next(_requests)), m.Done)

    def _card(self, seconds: float) -> VariantCard:
        pool = self._pool()
        if pool.card is None:
            self._talk(m.Ping(next(_requests)), m.Done, seconds=seconds)
        assert pool.card is not None
        return pool.card

    def _resolved(self, spec: VolumeSpec, seconds: float) -> VolumeSpec:
        card = self._card(seconds)
        if not card.binds_mask(spec):
            return card.resolve(spec)
        question = m.Resolve(next(_requests), spec.to_json())
        return VolumeSpec.from_json(self._talk(question, m.Resolved, seconds=seconds).spec)

    def _talk(
        self,
        question: Any,
        kind: type[M],
        body: NDArray[np.uint8] | None = None,
        *,
        seconds: float | None = None,
    ) -> M:
        what = type(question).__name__
        timeout = self.timeout if seconds is None else seconds

        def ask(seconds: float) -> M:
            with self._turn(what, seconds) as connection:
                connection.send(question, body)
                return connection.receive_answer(kind, question.request)

        return persistently(ask, timeout, what, self.address)

    def _hand_over(self, blob: Blob) -> None:
        dtype, place = blob.array.dtype.str, tuple(blob.affine.ravel().tolist())
        question = m.Put(next(_requests), dtype, blob.array.shape, place)
        digest = self._talk(question, m.Stored, flat(blob.array)).digest
        if digest != blob.digest():
            msg = "the array did not arrive as it was sent; put it again"
            raise SourceError(msg)

    def _members(self) -> list[Client]:
        """The clients of all generators of the server, this one among them."""
        pool = self._pool()
        if pool.card is None:
            self._talk(m.Ping(next(_requests)), m.Done)
        return [self._at(address) for address in pool.members] or [self]

    def _member(self, key: str) -> Client:
        """Whose volume this is: always the same one's, so that it is made once."""
        members = self._members()
        return members[int(key[:8], 16) % len(members)]

    def _at(self, address: str) -> Client:
        if address == self.address:
            return self
        # One step, so that two threads get the same one.
        return self._others.setdefault(address, Client(address, self.timeout))

    def _turn(self, what: str, seconds: float) -> Turn:
        return Turn(self._pool(), self.address, seconds, what)

    def _pool(self) -> Pool:
        pid = os.getpid()
        # One step, so that two threads in a fresh child get the same one.
        pool = self._pools.setdefault(pid, Pool())
        for other in [other for other in self._pools if other != pid]:
            stale = self._pools.pop(other, None)
            for connection in stale.idle if stale else ():
                connection.drop()
        return pool
