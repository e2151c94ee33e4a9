"""What a run of the tests must not leave behind: processes, sockets, shared memory, directories."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from time import monotonic
from time import sleep

MARK = "NVGEN_AUG_TEST_RUN"
# Python's own, which end with the process that uses them.
HELPERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")
SECONDS = 20.0


@dataclass
class Leftovers:
    """Compares how things stand with how they stood when it was made.

    Whatever this process starts from now on carries a mark in its environment, so
    that it is known even after its parent has gone.

    Args:
        directory: Where servers of this run put their sockets; it must be empty in the end.
    """

    directory: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    descriptors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        os.environ[MARK] = self.mark
        os.environ["XDG_RUNTIME_DIR"] = str(self.directory)
        self.descriptors = our_descriptors()

    def found(self) -> list[str]:
        """What is left, after what is on its way out has had its time."""
        deadline = monotonic() + SECONDS
        while (left := self._now()) and monotonic() < deadline:
            sleep(0.1)
        return left

    def _now(self) -> list[str]:
        left = [f"process {pid}: {line}" for pid, line in self._processes()]
        left += [f"descriptor {name}" for name in sorted(our_descriptors() - self.descriptors)]
        left += [f"directory {path}" for path in self.directory.iterdir()]
        return left

    def _processes(self) -> list[tuple[int, str]]:
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                line = (place / "cmdline").read_bytes()
                environment = (place / "environ").read_bytes().split(b"\0")
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue  # gone since, or somebody else's
            is_ours = mark in environment or parent == os.getpid()
            is_this = int(place.name) == os.getpid()
            if is_ours and not is_this and not any(helper in line for helper in HELPERS):
                found.append((int(place.name), line.replace(b"\0", b" ").decode(errors="replace")))
        return found


def our_descriptors() -> set[str]:
    """Open sockets and rings of this process, by what they are."""
    # An event loop of a library wakes itself through a pair of sockets.
    # By type: to ask some objects for their class is to wake them.
    kinds = asyncio.BaseEventLoop
    loops = [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]
    pairs = [getattr(loop, name, None) for loop in loops for name in ("_ssock", "_csock")]
    theirs = {end.fileno() for end in pairs if end is not None}
    found = set()
    for place in Path("/proc/self/fd").iterdir():
        try:
            what = os.readlink(place)
        except OSError:
            continue
        if what.startswith(("socket:", "/memfd:nvgen")) and int(place.name) not in theirs:
            found.add(what)
    return found
