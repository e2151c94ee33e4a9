"""Does a sample get wrong, lost or repeated, or anything stay behind, when all fails at random?

    python -m benchmarks.soak [--minutes N] [--seed S] [--quick]

A training loads batches, half of them synthetic, through a MONAI loader with two workers from a
supervised phantom and a cache that is always too small; another client fetches volumes and parts
of them. Every two seconds something is killed or stopped (generator, supervisor, loader worker,
client, the training itself), the disk is filled, files may not grow, a bit of a stored file is
flipped with its time left as it was, a file is cut short or a chunk deleted. What a service
manager would do is done: whoever died is started again, and the training goes on from its last
step. It ends with the epoch that is under way when the time is up.

Every sample that was delivered is compared with what the phantom makes directly from its spec,
and all of them with the plan. Then what all latents and volumes in the cache give is compared in
the same way, and processes, sockets, descriptors, shared memory, partial entries and temporary
files are counted. The seed decides the order of the faults; whom they hit, and when, is the
machine's doing. Disk and shared memory are private to the soak where the system lets it mount
them.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from time import monotonic
from time import sleep
from typing import Any
from typing import final

from rich.console import Console

from benchmarks.audit import Audit
from benchmarks.audit import wrong_entries
from benchmarks.chaos import OURS
from benchmarks.chaos import SERVING
from benchmarks.chaos import Chaos
from benchmarks.chaos import children
from benchmarks.contest import Bar
from benchmarks.markdown import bars_table
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from benchmarks.victims import CACHE_BYTES
from benchmarks.victims import RIGHT
from benchmarks.victims import TURNED_AWAY
from benchmarks.victims import WRONG
from benchmarks.victims import Scene
from benchmarks.victims import read_lines
from nvgen_aug.assembly import serve
from nvgen_aug.spec import VolumeSpec
from tests.leftovers import Leftovers

SECONDS_BETWEEN_FAULTS = 2.0
SECONDS_WITHOUT_A_STEP = 300.0
DISK = "16m"
MOUNTED = "--mounted"


def main() -> None:
    """Soak, print what was found, write the record; exit 1 if anything was."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=30.0, help="of faults (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="of faults and data (default 0)")
    parser.add_argument(MOUNTED, action="store_true", help="set by itself: it may mount")
    arguments = parser.parse_args()
    if not arguments.mounted and _may_mount():
        # A mount namespace of its own, which ends with it, whatever happens.
        command = ["unshare", "--mount", sys.executable, "-m", "benchmarks.soak", *sys.argv[1:]]
        os.execvp("unshare", [*command, MOUNTED])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
    minutes = 0.25 if arguments.quick else arguments.minutes
    with _scene(arguments.mounted) as scene:
        soak = Soak(scene, arguments.seed, has_disk=arguments.mounted)
        try:
            soak.run(minutes * 60)
        finally:
            soak.close()
        bars = soak.bars()
        numbers = {**soak.numbers(), "bars": [bar.to_dict() for bar in bars]}
    settings = {
        "minutes": minutes,
        "seed": arguments.seed,
        "seconds_between_faults": SECONDS_BETWEEN_FAULTS,
        "cache_bytes": CACHE_BYTES,
        "disk": f"tmpfs of {DISK}" if arguments.mounted else "a folder, which was never full",
    }
    print(bars_table(numbers["bars"]), end="\n\n")
    write_record("soak", settings, numbers, arguments)
    if not all(bar.is_met for bar in bars):
        print(f"what went wrong: {soak.found}", file=sys.stderr)
        sys.exit(1)


@final
class Soak:
    """One soak: its processes, its faults, and what came of them.

    Args:
        scene: Its files.
        seed: Of faults and data.
        has_disk: Whether the cache has a disk of its own, and shared memory is private, too.
    """

    def __init__(self, scene: Scene, seed: int, *, has_disk: bool) -> None:
        self.found: dict[str, list[str]] = {}
        self.restarts: Counter[str] = Counter()
        self._scene = scene
        self._seed = seed
        self._has_disk = has_disk
        self._leftovers = Leftovers(scene.run)
        self._nursery = self._found()
        self._pids: dict[str, int] = {}
        self._audit = Audit(scene, seed)
        self._chaos = Chaos(self, scene, seed, has_disk=has_disk)
        self._console = Console(stderr=True, highlight=False)
        self._errors: list[str] = []
        self._is_over = False  # once the training has ended by itself
        self._last_step = (0, monotonic())
        self._entries = 0

    @property
    def training(self) -> int:
        """Process id of the training."""
        return self._pids.get("train", 0)

    @property
    def onlooker(self) -> int:
        """Process id of the client that looks on."""
        return self._pids.get("look", 0)

    @property
    def steps(self) -> int:
        """Steps of training so far."""
        return self._audit.steps

    def run(self, seconds: float) -> None:
        """Let faults rain for so long, then let the training end, and look at what is left."""
        for role in ("train", "look"):
            self._order(role)
        self._tell("waiting for the first step")
        while not self._audit.steps:
            self._watch()
        begin = monotonic()
        strike = begin + SECONDS_BETWEEN_FAULTS
        with self._console.status("") as status:
            while monotonic() < begin + seconds:
                self._watch()
                if monotonic() >= strike:
                    name = self._chaos.strike()
                    strike = monotonic() + SECONDS_BETWEEN_FAULTS
                    status.update(self._progress(begin, seconds, name))
                    if not self._console.is_terminal and sum(self._chaos.struck.values()) % 30 == 1:
                        self._tell(self._progress(begin, seconds, name))
        self._chaos.heal(everything=True)
        self._tell("the last epoch ends")
        self._scene.end.touch()
        while not self._is_over:
            self._watch()
        while self._pids:
            self._signal("look", signal.SIGTERM)
            self._watch()
        self._nursery.communicate()
        self._audit.close()
        self._look_around()

    def close(self) -> None:
        """End what still runs, however this ended."""
        self._chaos.heal(everything=True)
        for role in self._pids:
            self._signal(role, signal.SIGKILL)
        if self._nursery.poll() is None:
            self._nursery.communicate()

    def bars(self) -> list[Bar]:
        """What must be 0."""
        return [Bar(name, float(len(what)), 0.0, is_most=True) for name, what in self.found.items()]

    def numbers(self) -> dict[str, Any]:
        """Counts of everything."""
        marks = self._scene.looks.read_bytes()
        mishaps = read_lines(self._scene.mishaps)
        return {
            "samples_delivered": self._audit.samples,
            "synthetic_delivered": self._audit.synthetic,
            "epochs": self._audit.epochs,
            "most_samples_away_from_the_share": self._audit.stray,
            "client_fetches": marks.count(RIGHT) + marks.count(WRONG),
            "client_turned_away": marks.count(TURNED_AWAY),
            "entries_compared_in_the_cache": self._entries,
            "faults": dict(sorted(self._chaos.struck.items())),
            "faults_without_a_victim": dict(sorted(self._chaos.missed.items())),
            "processes_started_again": dict(self.restarts),
            "recoveries_of_the_training": dict(
                Counter(f"{one['what']} after {one['error']}" for one in mishaps)
            ),
            "found": self.found,
        }

    def _watch(self) -> None:
        """A fifth of a second of care: who died is started again, what was delivered is read."""
        sleep(0.2)
        self._chaos.heal()
        self._listen()
        self._audit.follow()
        steps, since = self._last_step
        if self._audit.steps != steps:
            self._last_step = (self._audit.steps, monotonic())
        elif monotonic() > since + SECONDS_WITHOUT_A_STEP:
            msg = f"no step of training for {SECONDS_WITHOUT_A_STEP:g} s\n{self._standstill()}"
            raise SystemExit(msg)

    def _standstill(self) -> str:
        """Where the training and its workers stand, what it met before, and how its server is."""
        log = self._scene.log("train")
        told = log.stat().st_size
        inner = children(self.training)
        workers = [pid for pid, line in inner if OURS in line]
        for pid in filter(None, (self.training, *workers)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)  # each prints its stack
            sleep(0.5)
        serving = [pid for pid, line in inner if SERVING in line]
        serving += [pid for one in serving for pid, _ in children(one)]
        return "\n".join(
            [
                f"training {self.training}, its loader's workers {workers}",
                *(f"process {pid} of the server: {_state(pid)}" for pid in serving),
                *(str(mishap) for mishap in read_lines(self._scene.mishaps)[-8:]),
                log.read_bytes()[told:].decode(errors="replace"),
            ]
        )

    def _found(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.victims", str(self._scene.root), str(self._seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a second line would wait in a buffer, where `select` does not see it
            env={**os.environ, "TMPDIR": str(self._scene.temporary)},
        )

    def _order(self, role: str) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(f"{role}\n".encode())

    def _signal(self, role: str, number: int) -> None:
        # Never 0, which means everybody, us among them.
        if pid := self._pids.get(role, 0):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _listen(self) -> None:
        """Hear who was started and who has ended; who did not end by itself is ordered anew."""
        assert self._nursery.stdout is not None
        while select.select([self._nursery.stdout], [], [], 0)[0]:
            word, role, number = self._nursery.stdout.readline().decode().split()
            if word == "started":
                self._pids[role] = int(number)
                continue
            del self._pids[role]
            if self._is_over or (int(number) == 0 and self._scene.end.exists()):
                self._is_over = True
                continue
            if int(number) != -signal.SIGKILL:
                last = self._scene.log(role).read_text(errors="replace").splitlines()[-12:]
                self._errors.append(f"`{role}` ended with code {number}: {' | '.join(last)}")
            self.restarts[role] += 1
            self._order(role)

    def _look_around(self) -> None:
        """Fill in everything that must be nothing."""
        self._tell("looking for what is wrong or left behind")
        # Who starts next clears away what those left that were killed together.
        with serve("phantom", cache=self._scene.cache, max_bytes=CACHE_BYTES) as source:
            source.fetch(VolumeSpec("phantom", seed=1))
        self._entries, wrong_cached = wrong_entries(self._scene)
        left = self._leftovers.found()
        marks = self._scene.looks.read_bytes()
        self.found = {
            "wrong samples in the training": self._audit.wrong,
            "lost or repeated samples": [
                *self._audit.out_of_order,
                *([] if self._audit.is_whole else ["the last epoch is not whole"]),
            ],
            "batches a whole sample or more away from the share": (
                [f"{self._audit.stray} samples"] if self._audit.stray >= 1 else []
            ),
            "wrong volumes at the client": ["a volume"] * marks.count(WRONG),
            "wrong entries in the cache": wrong_cached,
            "errors that the training or the client did not expect": self._errors,
            "processes left": [one for one in left if one.startswith("process")],
            "sockets and rings left": [
                *(one for one in left if one.startswith("descriptor")),
                *(str(one["what"]) for one in read_lines(self._scene.descriptors)),
            ],
            "folders of servers left": [one for one in left if one.startswith("directory")],
            "partial entries left": _names(self._scene.cache / "partial"),
            "temporary files left": _ours(_names(self._scene.temporary)),
        }
        if self._has_disk:
            self.found["shared memory left"] = _ours(_names(Path("/dev/shm")))

    def _progress(self, begin: float, seconds: float, name: str) -> str:
        minutes = (monotonic() - begin) / 60
        return (
            f"{minutes:.1f} of {seconds / 60:g} min, {sum(self._chaos.struck.values())} faults "
            f"(now: {name or 'none'}), {self._audit.samples} samples, {len(self._audit.wrong)} "
            f"wrong, {len(self._audit.out_of_order)} lost or repeated, {len(self._errors)} errors"
        )

    def _tell(self, text: str) -> None:
        self._console.print(text, markup=False)


@contextmanager
def _scene(mounted: bool) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        scene = Scene(Path(name))
        for folder in (scene.disk, scene.run, scene.temporary, scene.events):
            folder.mkdir(mode=0o700)
        if mounted:
            _mount(scene.disk, DISK)
            # Shared memory that others use at the same time must not be taken for ours.
            _mount(Path("/dev/shm"), "1g")
        try:
            yield scene
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(scene.disk)], check=False)


def _mount(place: Path, size: str) -> None:
    options = f"size={size},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "soak", str(place)], check=True)


def _may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    script = 'mount -t tmpfs -o size=1m soak "$0"'
    with tempfile.TemporaryDirectory() as name:
        command = ["unshare", "--mount", "sh", "-c", script, name]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _state(pid: int) -> str:
    """Whether a process runs, sleeps or is stopped, and in what it waits."""
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        state = next(line for line in status if line.startswith("State"))
        return f"{state}, in {Path(f'/proc/{pid}/wchan').read_text() or 'nothing'}"
    return "gone"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _ours(names: list[str]) -> list[str]:
    """Less what Python's and torch's own queues leave when a loader is killed."""
    return [name for name in names if not name.startswith(("pymp-", "torch_", "sem."))]


if __name__ == "__main__":
    main()
