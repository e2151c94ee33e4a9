"""What do 64 clients at once cost a server, and does each of them get its turn?

    python -m benchmarks.many_clients [--quick]

One supervised server and processes that each ask for one volume after the other. The
same number of volumes is asked for by one client and by many, in turns. Made: each volume is
another one, and the phantom pretends to work 20 ms on it, so the generator is what all wait for.
Ready: the server has it in memory, so queue, sockets and ring are what is timed. A wait is the
time of one `fetch`; a fair turn is that of all clients' volumes one after the other.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from time import perf_counter
from typing import final

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.timing import quick_parser
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.serving import Resident
from nvgen_aug.spec import VolumeSpec

ONE = "one client"
SECONDS_PER_VOLUME = 0.02
READY_SEEDS = 8
SIZE = (32, 32, 32)
# So little that it is full soon: what a server holds then is what it holds for ever.
MEMORY_BYTES = 8 << 20


def main() -> None:
    """Measure, print tables and bars, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    clients = 4 if arguments.quick else arguments.clients
    rounds = 2 if arguments.quick else arguments.rounds
    volumes = clients * (2 if arguments.quick else 3)
    with Crowd.gathered(clients) as crowd:
        made = crowd.contest("made", volumes, rounds)
        before = crowd.server.status().memory
        ready = crowd.contest("ready", volumes, rounds)
        again = crowd.contest("made again", volumes, rounds)
        status = crowd.server.status()
    many = crowd.many
    # The first contest fills what the server keeps in memory; from there on it must not grow.
    growth = status.memory / before - 1
    fair = again.seconds(many) / volumes * clients
    bars = [
        Bar("made: rate of many over that of one", again.times_faster(many, ONE), 0.9),
        Bar("ready: rate of many over that of one", ready.times_faster(many, ONE), 0.9),
        Bar("made: longest wait in fair turns", crowd.longest["made again"] / fair, 3.0, True),
        Bar("growth of the server's memory", growth, 0.05, True),
    ]
    settings = {
        "clients": clients,
        "volumes": volumes,
        "seconds_per_volume": SECONDS_PER_VOLUME,
        "longest_wait_seconds": {name: round(wait, 4) for name, wait in crowd.longest.items()},
        "fair_turn_seconds": round(fair, 4),
        "fewest_and_most_at_half_time": crowd.at_half_time,
        "memory_before_and_after": [before, status.memory],
        "put_off": status.refused,
    }
    conclude("many_clients", arguments, [made, ready, again], bars, settings)


def engine() -> Engine:
    """What the server makes."""
    generator = PhantomGenerator(seconds_per_volume=SECONDS_PER_VOLUME)
    return Engine(generator, memory_bytes=MEMORY_BYTES)


@final
class Crowd:
    """Client processes that fetch on command, all at once.

    Args:
        server: Of which to ask.
        lines: To each process.
    """

    def __init__(self, server: Client, lines: list[Connection]) -> None:
        self.server = server
        self.many = f"{len(lines)} clients"
        self.longest: dict[str, float] = {}
        self.at_half_time: dict[str, tuple[int, int]] = {}
        self._lines = lines
        self._seeds = count(1000)

    @classmethod
    @contextmanager
    def gathered(cls, clients: int) -> Iterator[Crowd]:
        """A server and so many processes, until the end of the block."""
        context = multiprocessing.get_context("fork")
        resident = Resident("benchmarks.many_clients:engine", {})
        with closing(resident), Client(resident.address) as server:
            pairs = [context.Pipe() for _ in range(clients)]
            crowd = [
                context.Process(target=_ask, args=(resident.address, theirs), daemon=True)
                for _, theirs in pairs
            ]
            for process in crowd:
                process.start()
            try:
                yield cls(server, [ours for ours, _ in pairs])
            finally:
                for ours, theirs in pairs:
                    ours.send(None)
                    theirs.close()
                for process in crowd:
                    process.join()

    def contest(self, name: str, volumes: int, rounds: int) -> Standing:
        """One client against all of them, with the same number of volumes."""
        entrants = [
            Entrant(who, partial(self._fetch, name, n, volumes), is_ours=True, items=volumes)
            for who, n in ((ONE, 1), (self.many, len(self._lines)))
        ]
        title = f"{volumes} volumes of {SIZE[0]}³, {name}"
        return hold(title, entrants, rounds=rounds, memory=False, item="volume")

    def _fetch(self, name: str, clients: int, volumes: int) -> None:
        each = volumes // clients
        lines = self._lines[:clients]
        for number, line in enumerate(lines):
            fresh = [next(self._seeds) for _ in range(each)]
            known = [(number + n) % READY_SEEDS for n in range(each)]
            line.send(known if name == "ready" else fresh)
        ends = [line.recv() for line in lines]
        if clients == 1:
            return
        waits = [end - begin for one in ends for begin, end in one]
        self.longest[name] = max(self.longest.get(name, 0.0), *waits)
        times = sorted(end for one in ends for _, end in one)
        half = times[len(times) // 2]
        done = [sum(end <= half for _, end in one) for one in ends]
        self.at_half_time[name] = (min(done), max(done))


def _ask(address: str, line: Connection) -> None:
    """A client process: for each list of seeds, when each fetch began and ended."""
    with Client(address) as client:
        while (seeds := line.recv()) is not None:
            found = []
            for seed in seeds:
                begin = perf_counter()
                client.fetch(VolumeSpec("phantom", seed=seed, size=SIZE))
                found.append((begin, perf_counter()))
            line.send(found)


if __name__ == "__main__":
    main()
