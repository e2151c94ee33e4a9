"""Chaos: one fault after the other, in an order that a seed decides.

All kinds are shuffled and dealt out before they are shuffled again, so that a short soak
meets each of them as often as any other. Where something must first work to be broken, its
turn goes to the next kind: a training, or its server, is struck again once it has made a step.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic
from typing import Protocol
from typing import final

from .victims import Scene

SERVING = b"nvgen_aug.serving"
OURS = b"benchmarks.victims"
OF_THE_TRAINING = ("training", "supervisor", "generator", "loader worker")
FEWEST_BYTES = 8192  # of a file, for a generator whose files may not grow


class Cast(Protocol):
    """The processes that can be struck."""

    @property
    def training(self) -> int:
        """Process id of the training."""

    @property
    def onlooker(self) -> int:
        """Process id of the client that looks on."""

    @property
    def steps(self) -> int:
        """Steps of training so far."""


@final
class Chaos:
    """Strikes processes and files, and takes back what passes by itself in the world.

    Args:
        cast: The processes.
        scene: The files.
        seed: Of order and victims.
        has_disk: Whether the cache has a small disk of its own, which can be filled.
    """

    def __init__(self, cast: Cast, scene: Scene, seed: int, *, has_disk: bool) -> None:
        self.struck: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._cast = cast
        self._scene = scene
        self._random = Random(seed)
        # Of its own, because how much a choice of a victim takes depends on who is there.
        self._order = Random(seed)
        self._heal: list[tuple[float, Callable[[], None]]] = []
        self._faults: dict[str, Callable[[], bool]] = {
            "generator killed": lambda: self._signal(self._generator(), signal.SIGKILL),
            "generator stopped": lambda: self._signal(self._generator(), signal.SIGSTOP),
            "supervisor killed": lambda: self._signal(self._supervisor(), signal.SIGKILL),
            "supervisor stopped": lambda: self._pause(self._supervisor()),
            "loader worker killed": lambda: self._signal(self._worker(), signal.SIGKILL),
            "loader worker stopped": lambda: self._pause(self._worker()),
            "client killed": lambda: self._signal(self._cast.onlooker, signal.SIGKILL),
            "client stopped": lambda: self._pause(self._cast.onlooker),
            "training killed": lambda: self._signal(self._training(), signal.SIGKILL),
            "files limited": lambda: self._limit(self._generator()),
            "bit flipped": self._flip,
            "file truncated": self._truncate,
            "chunk deleted": self._delete,
        }
        if has_disk:
            self._faults["disk full"] = self._fill
        self._deck: list[str] = []
        self._steps = 0  # at the last blow to the training or its server

    def strike(self) -> str:
        """One fault; its name, or nothing if none found a victim."""
        for _ in self._faults:
            if not self._deck:
                self._deck = self._order.sample(sorted(self._faults), len(self._faults))
            name = self._deck.pop()
            with suppress(ProcessLookupError, FileNotFoundError, PermissionError):
                if self._faults[name]():
                    self.struck[name] += 1
                    if name.startswith(OF_THE_TRAINING):
                        self._steps = self._cast.steps
                    return name
            self.missed[name] += 1
        return ""

    def heal(self, *, everything: bool = False) -> None:
        """Take back what has lasted long enough, or all of it."""
        now = monotonic()
        due = [mend for until, mend in self._heal if everything or until <= now]
        self._heal = [one for one in self._heal if one[1] not in due]
        for mend in due:
            with suppress(ProcessLookupError, FileNotFoundError):
                mend()

    def _later(self, mend: Callable[[], None]) -> None:
        self._heal.append((monotonic() + self._random.uniform(0.5, 3.0), mend))

    def _training(self) -> int:
        return self._cast.training if self._cast.steps > self._steps else 0

    def _supervisor(self) -> int:
        return self._one(pid for pid, line in children(self._training()) if SERVING in line)

    def _generator(self) -> int:
        return self._one(pid for pid, line in children(self._supervisor()) if SERVING in line)

    def _worker(self) -> int:
        return self._one(pid for pid, line in children(self._training()) if OURS in line)

    def _one(self, pids: Iterator[int]) -> int:
        found = sorted(pids)
        return self._random.choice(found) if found else 0

    def _signal(self, pid: int, number: int) -> bool:
        if pid:
            os.kill(pid, number)
        return bool(pid)

    def _pause(self, pid: int) -> bool:
        if not self._signal(pid, signal.SIGSTOP):
            return False
        self._later(lambda: os.kill(pid, signal.SIGCONT))
        return True

    def _limit(self, pid: int) -> bool:
        """As a quota: the system refuses to let any file grow further."""
        if not pid:
            return False
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FEWEST_BYTES, before[1]))
        self._later(lambda: _unlimit(pid, before))
        return True

    def _fill(self) -> bool:
        balloon = self._scene.disk / "balloon"
        try:
            with balloon.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        self._later(balloon.unlink)
        return True

    def _flip(self) -> bool:
        path = self._stored()
        if path is None:
            return False
        facts = path.stat()
        with path.open("r+b") as file:
            at = self._random.randrange(facts.st_size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self._random.randrange(8)]))
        # A disk that forgets does not write down when.
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return True

    def _truncate(self) -> bool:
        path = self._stored()
        if path is None:
            return False
        os.truncate(path, self._random.randrange(path.stat().st_size))
        return True

    def _delete(self) -> bool:
        path = self._stored()
        if path is None:
            return False
        path.unlink()
        return True

    def _stored(self) -> Path | None:
        """A file of an entry, mostly one of its chunks."""
        folders = [self._scene.cache / kind for kind in ("volumes", "latents")]
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        files = [path for path in files if path.stat().st_size]
        return self._random.choice(files) if files else None


def children(pid: int) -> list[tuple[int, bytes]]:
    """Process id and command line of the children of a process."""
    found = []
    for place in Path("/proc").glob("[0-9]*") if pid else ():
        with suppress(OSError, ValueError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append((int(place.name), (place / "cmdline").read_bytes()))
    return found


def _unlimit(pid: int, before: tuple[int, int]) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
