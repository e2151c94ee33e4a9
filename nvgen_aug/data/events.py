"""EventLog: what a run did, line by line, in a file that only grows and is chained by SHA-256.

Any number of processes write to one file: a line is written in one piece under a lock on
the file, so lines never mix, and every line holds the SHA-256 of the one before. Nothing is
held open between two writes, so a fork inherits nothing and a killed writer leaves at most
one torn line behind. The next writer begins a new line and says what it found.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import final

from ..errors import DataError

NAME = "events.jsonl"
FIRST = "0" * 64  # what the first line has in place of the SHA-256 of the line before
TORN = "torn"
_OPENING = b'{"n":1,"kind":'  # of every such file
_CHUNK = 1 << 16

Event = dict[str, Any]


@final
class EventLog:
    """`events.jsonl` in the folder of a run.

    Args:
        folder: The folder; made when something is written.
    """

    __slots__ = ("path",)

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder).absolute() / NAME

    def append(self, events: Sequence[Mapping[str, Any]], *, durable: bool = False) -> None:
        """Write events, each with its line number `n` and the chain's `prev`.

        Args:
            events: JSON values; nothing is written for none.
            durable: Wait until they are on the disk, for what a power cut must not take.

        Raises:
            DataError: if the file cannot be written.
        """
        if not events:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path) as file:
                end = _End.of(file)
                _write(file, end.lines([dict(event) for event in events]))
                if durable:
                    os.fsync(file)
        except OSError as error:
            msg = (
                f"cannot write to {self.path}: {error.strerror}; choose another folder for "
                "`record_to`, on a disk with room that can lock files"
            )
            raise DataError(msg) from error

    def first(self) -> Event | None:
        """The first event, or `None` if there is none yet."""
        try:
            with self.path.open("rb") as file:
                return _parsed(file.readline())
        except FileNotFoundError:
            return None

    def read(self) -> Chain:
        """All events, and whether the chain holds.

        Raises:
            DataError: if there is no such file, or it cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            msg = (
                f"cannot read {self.path}: {error.strerror}; a run has one after "
                "`train.record_to(folder)`"
            )
            raise DataError(msg) from error
        return chain_of(content)


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """What a file of events holds.

    Args:
        events: All that could be read, in order.
        head: SHA-256 of the last whole line: it names the file up to there.
        torn: Numbers of lines that a killed writer left unfinished.
        breaks: What does not fit together, as sentences with line numbers.
    """

    events: tuple[Event, ...]
    head: str
    torn: tuple[int, ...]
    breaks: tuple[str, ...]


def chain_of(content: bytes) -> Chain:
    """The events in the bytes of a file, compared with their chain."""
    *lines, rest = content.split(b"\n")
    if _parsed(rest) is not None:  # nothing but the line break is missing
        lines, rest = [*lines, rest], b""
    events: list[Event] = []
    torn: list[int] = []
    breaks: list[str] = []
    before, pending = FIRST, list[bytes]()
    for number, line in enumerate(lines, start=1):
        event = _parsed(line)
        if event is None:
            pending.append(line)
            continue
        strange = range(number - len(pending), number)
        if event["kind"] == TORN and event.get("sha256") == _sha256(b"\n".join(pending)):
            torn += strange
        else:
            breaks += [f"line {n} is no event, and none was torn there" for n in strange]
        pending = []
        if event["n"] != number:
            breaks.append(f"line {number} was written as line {event['n']}")
        elif event["prev"] != before:
            breaks.append(f"line {number} does not continue line {number - 1}: one was changed")
        before = _sha256(line)
        events.append(event)
    # Nobody has written since a writer was killed.
    torn += range(len(lines) + 1 - len(pending), len(lines) + 1 + bool(rest))
    return Chain(tuple(events), before, tuple(torn), tuple(breaks))


@final
@dataclass(frozen=True, slots=True)
class _End:
    """Where a file ends.

    Args:
        number: Whole lines.
        digest: SHA-256 of the last of them.
        torn: Bytes behind it.
        is_closed: Whether the file ends with a line break, or is empty.
    """

    number: int
    digest: str
    torn: bytes
    is_closed: bool

    @classmethod
    def of(cls, file: int) -> _End:
        begin = os.fstat(file).st_size
        tail = b""
        while begin:
            step = min(_CHUNK, begin)
            begin -= step
            tail = os.pread(file, step, begin) + tail
            *lines, rest = tail.split(b"\n")
            if _parsed(rest) is not None:
                lines, rest = [*lines, rest], b""
            # The first may be the end of a longer one.
            for place in reversed(range(1 if begin else 0, len(lines))):
                event = _parsed(lines[place])
                if event is not None:
                    torn = b"\n".join([*lines[place + 1 :], rest])
                    return cls(event["n"], _sha256(lines[place]), torn, tail.endswith(b"\n"))
        if not _OPENING.startswith(tail.partition(b"\n")[0][: len(_OPENING)]):
            raise OSError(errno.EINVAL, "there is such a file, and it holds no events of a run")
        return cls(0, FIRST, tail, not tail or tail.endswith(b"\n"))

    def lines(self, events: Sequence[Event]) -> bytes:
        """These events as the lines that follow."""
        number, digest = self.number, self.digest
        text = b"" if self.is_closed else b"\n"
        if self.torn:
            torn = self.torn.removesuffix(b"\n")
            number += torn.count(b"\n") + 1
            events = [{"kind": TORN, "bytes": len(torn), "sha256": _sha256(torn)}, *events]
        for event in events:
            number += 1
            line = json.dumps(
                {"n": number, **event, "prev": digest}, separators=(",", ":"), ensure_ascii=False
            ).encode()
            digest = _sha256(line)
            text += line + b"\n"
        return text


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go of when the file is closed, or its holder dies
        yield file
    finally:
        os.close(file)


def _write(file: int, content: bytes) -> None:
    # In one piece but for a full disk, where the second call says why the first fell short.
    while content:
        content = content[os.write(file, content) :]


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("n"), int)
    return event if is_event and {"kind", "prev"} <= set(event) else None


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
