"""Messages: what the processes say to one another.

How they travel, and how they are checked on arrival, is the business of `wire`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import replace
from typing import final

from .. import errors
from ..errors import NvgenError
from ..errors import SourceError

PROTOCOL = 4
MAX_PUT_BYTES = 1 << 30
SPECS_PER_FRAME = 256


@dataclass(frozen=True, slots=True)
class Message:
    """Anything one process says to another."""


@final
@dataclass(frozen=True, slots=True)
class Hello(Message):
    """A client opens a connection."""

    protocol: int


@final
@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The server's first answer; the descriptor of the ring comes with it.

    `members` are the addresses of all generators of this server, of which this is one.
    """

    protocol: int
    card: str
    ring: str
    slots: int
    slot_bytes: int
    members: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """A volume is wanted; `seconds` is how long the client will wait for it."""

    request: int
    spec: str
    crop: str | None
    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Voxels(Message):
    """A volume, whose first `length` bytes (image, then label) lie in a slot."""

    request: int
    key: str
    slot: int
    length: int
    dtypes: tuple[str, ...]
    image_shape: tuple[int, ...]
    label_shape: tuple[int, ...] | None
    affine: tuple[float, ...]
    provenance: str
    crop: str | None


@final
@dataclass(frozen=True, slots=True)
class Piece(Message):
    """The next bytes of a volume that is larger than a slot."""

    request: int
    slot: int
    offset: int
    length: int


@final
@dataclass(frozen=True, slots=True)
class Taken(Message):
    """The client has copied what lay in the slot."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class Put(Message):
    """An array follows as raw bytes."""

    request: int
    dtype: str
    shape: tuple[int, ...]
    affine: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True)
class Stored(Message):
    """The array of a `Put` is kept under this digest."""

    request: int
    digest: str


@final
@dataclass(frozen=True, slots=True)
class Prefetch(Message):
    """These specs come next; answered with `Done` at once."""

    request: int
    specs: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Resolve(Message):
    """A spec is to be bound to a mask of the server's bank; answered with `Resolved`."""

    request: int
    spec: str


@final
@dataclass(frozen=True, slots=True)
class Resolved(Message):
    """The spec with every default and the mask's digest filled in."""

    request: int
    spec: str


@final
@dataclass(frozen=True, slots=True)
class Ping(Message):
    """Is anybody there? Answered with `Done`."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class Done(Message):
    """Heard."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class AskStats(Message):
    """What has been done so far? Answered with `Stats`."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class Stats(Message):
    """The fields of `SourceStats` as JSON."""

    request: int
    values: str


@final
@dataclass(frozen=True, slots=True)
class Prove(Message):
    """Can it generate? Answered with `Done` after a canary, unless a volume was made just now."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class AskStatus(Message):
    """How is the server? Answered with `Report`: a `Status` as JSON."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class AskMetrics(Message):
    """The same for Prometheus: answered with `Report` in its text form."""

    request: int


@final
@dataclass(frozen=True, slots=True)
class Report(Message):
    """What a server says of itself, as text."""

    request: int
    text: str


@final
@dataclass(frozen=True, slots=True)
class Later(Message):
    """Not now: ask again in so many seconds."""

    request: int
    seconds: float
    why: str


@final
@dataclass(frozen=True, slots=True)
class Failure(Message):
    """An error, by the name of its class in `nvgen_aug.errors` and its text."""

    request: int
    kind: str
    text: str

    @classmethod
    def of(cls, error: BaseException, request: int = 0) -> Failure:
        """The message for an error; one that is not ours goes as a `SourceError`."""
        if isinstance(error, NvgenError):
            return cls(request, type(error).__name__, str(error))
        return cls(request, "SourceError", f"{type(error).__name__}: {error}")

    def without_paths(self) -> Failure:
        """The same for a client, whom the server's folders do not concern."""
        return replace(self, text=without_paths(self.text))

    def error(self) -> NvgenError:
        """The error, in its own class."""
        kind = getattr(errors, self.kind, None)
        known = isinstance(kind, type) and issubclass(kind, NvgenError)
        return kind(self.text) if known and kind is not None else SourceError(self.text)


@final
@dataclass(frozen=True, slots=True)
class Launch(Message):
    """What a supervisor is told: how each child makes its engine, and who owns them."""

    factory: str
    arguments: tuple[str, ...]
    directory: str
    owner: int
    patience: str


@final
@dataclass(frozen=True, slots=True)
class Begin(Message):
    """What the generator's process is told by its supervisor."""

    factory: str
    arguments: str
    address: str
    members: tuple[str, ...]
    supervisor: int
    restarts: int
    last_error: str


@final
@dataclass(frozen=True, slots=True)
class Beat(Message):
    """The generator's process is alive; `silent` is how long its job has made no progress."""

    silent: float
    longest: float


@final
@dataclass(frozen=True, slots=True)
class Ready(Message):
    """A new server answers at this address."""

    address: str


@final
@dataclass(frozen=True, slots=True)
class Leave(Message):
    """An owner of a server needs it no more. Answered with `Left`."""


@final
@dataclass(frozen=True, slots=True)
class Left(Message):
    """How many owners a server still has; without any it ends now."""

    owners: int


_KINDS: tuple[type[Message], ...] = (
    *(Hello, Welcome, Fetch, Voxels, Piece, Taken, Put, Stored, Prefetch, Ping, Done),
    *(Resolve, Resolved),
    *(AskStats, Stats, Prove, AskStatus, AskMetrics, Report, Later, Failure),
    *(Launch, Begin, Beat, Ready, Leave, Left),
)
_PATHS = re.compile(r"""(?<=['"`])/[^'"`]+(?=['"`])|(?<![\w.~/<])/[^\s'"`:;,()]+""")


def without_paths(text: str) -> str:
    """A text with every absolute path in it left out."""
    return _PATHS.sub("<path>", text)


BY_NAME = {kind.__name__: kind for kind in _KINDS}
