"""How long does it take to hand a volume to another process?

    python -m benchmarks.hand_over [--quick]

A 256³ int16 image that lies ready in one process becomes a tensor of another process's own, every
byte of which is then read once, as a sum of 64-bit words. Ours is `Client.fetch` from a server that
has made the volume: spec, key, affine and provenance go with it. It was decoded into the ring of
shared memory; what lies elsewhere, since others were made after it, is copied into the ring first.
The peers hand over the same array, one request after the other. `seen` stops at a view of the
shared memory, nothing copied and nothing read. `memcpy` stays in one process.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.ready_volume import ReadyVolume
from benchmarks.timing import quick_parser
from nvgen_aug.crop import Crop
from nvgen_aug.serving import messages as m
from nvgen_aug.serving import wire
from nvgen_aug.serving.client import Client
from nvgen_aug.serving.engine import Engine
from nvgen_aug.serving.ring import MAX_SLOTS
from nvgen_aug.serving.ring import RingView
from nvgen_aug.serving.server import Server
from nvgen_aug.spec import VolumeSpec

OURS, FIRST, MOVED = "ours", "ours, for the first time", "ours, copied into the ring"
QUEUE = "multiprocessing.Queue"
TORCH_QUEUE = "torch.multiprocessing.Queue"


def main() -> None:
    """Measure, print the table and the bar, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    # What a DataLoader's worker has; more would compete with the other process for two cores.
    torch.set_num_threads(1)
    edge, rounds = (64, 3) if arguments.quick else (256, arguments.rounds)
    with Producer.started(edge) as producer:
        expected = _sum(torch.from_numpy(ReadyVolume(edge).image))
        standing = hold(
            f"{edge}³ int16, {edge**3 * 2 / 2**20:.0f} MiB, from one process to another",
            producer.entrants(),
            rounds=rounds,
            check=lambda total: 0.0 if total is None else float(abs(total - expected)),
            error_name="error of the sum",
        )
    bars = [
        Bar(f"{what}, private and summed: times faster than {QUEUE}", ratio, 20.0)
        for what, ratio in {
            "asked for again": standing.times_faster(OURS, QUEUE),
            "for the first time": standing.times_faster(FIRST, QUEUE),
        }.items()
    ]
    conclude("hand_over", arguments, [standing], bars)


class Producer:
    """The other process, which has the volume and hands it over in every way.

    Args:
        edge: Of the volume.
        folder: For the server's socket.
    """

    def __init__(self, edge: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        torch_context: Any = torch.multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._queue: Any = context.Queue()
        self._torch_queue: Any = torch_context.Queue()
        self._address = folder / "server.sock"
        self._source = ReadyVolume(edge).image
        self._process: Any = torch_context.Process(
            target=_produce, args=(edge, self._address, other, self._queue, self._torch_queue)
        )

    @classmethod
    @contextmanager
    def started(cls, edge: int) -> Iterator[Producer]:
        """A producer that answers, ended with the block."""
        with tempfile.TemporaryDirectory(prefix="hand-over-") as folder:
            producer = cls(edge, Path(folder))
            producer._process.start()
            producer._pipe.recv()
            try:
                yield producer
            finally:
                producer._pipe.send("end")
                producer._process.join()

    def fetcher(self) -> Callable[[], int]:
        """Our hand-over of one volume: a private array, summed."""
        client = Client(f"unix:{self._address}")
        spec = client.resolve(VolumeSpec("phantom", seed=1))
        return lambda: _fetched(client, spec)

    def entrants(self) -> list[Entrant]:
        """Everybody, ours first."""
        client = Client(f"unix:{self._address}")
        spec = client.resolve(VolumeSpec("phantom", seed=1))
        view = _View(self._address, spec, client)
        reused = np.empty_like(self._source)
        seeds = count(2)
        latest: list[VolumeSpec] = []

        def make(volumes: int) -> None:
            """Have volumes made, and see no more of them than a voxel; the first one is latest."""
            latest[:] = [client.resolve(VolumeSpec("phantom", seed=next(seeds)))]
            others = [VolumeSpec("phantom", seed=next(seeds)) for _ in range(volumes - 1)]
            for wanted in (*latest, *others):
                client.fetch(wanted, Crop((0, 0, 0), (1, 1, 1)))

        def queued() -> int:
            self._pipe.send("queue")
            return _sum(torch.from_numpy(self._queue.get()))

        def torch_queued() -> int:
            self._pipe.send("torch queue")
            return _sum(self._torch_queue.get().clone())

        def torch_seen() -> None:
            self._pipe.send("torch queue")
            self._torch_queue.get()

        def copied() -> int:
            return _sum(torch.from_numpy(self._source.copy()))

        def copied_again() -> int:
            np.copyto(reused, self._source)
            return _sum(torch.from_numpy(reused))

        return [
            Entrant(
                OURS,
                self.fetcher(),
                is_ours=True,
                note="asked for a moment before",
                prepare=self.fetcher(),
            ),
            Entrant(
                FIRST,
                lambda: _fetched(client, latest[0]),
                is_ours=True,
                note="made in the ring, and seen by nobody yet",
                prepare=lambda: make(1),
            ),
            Entrant(
                MOVED,
                lambda: _fetched(client, latest[0]),
                is_ours=True,
                note=f"{MAX_SLOTS} others were made after it",
                prepare=lambda: make(1 + MAX_SLOTS),
            ),
            Entrant(
                "ours, seen", view.see, is_ours=True, note="no copy, and no sum", prepare=view.see
            ),
            Entrant(QUEUE, queued, note="a numpy array, pickled"),
            Entrant(TORCH_QUEUE, torch_queued, note="a fresh tensor each time, cloned on arrival"),
            Entrant(f"{TORCH_QUEUE}, seen", torch_seen, note="not cloned, and no sum"),
            Entrant("memcpy, new array", copied, note="within one process"),
            Entrant("memcpy, same array", copied_again, note="within one process"),
        ]


class _View:
    """A client that stops where the volume can be seen: the messages of ours, and no copy."""

    def __init__(self, address: Path, spec: VolumeSpec, client: Client) -> None:
        self._spec = spec.to_json()
        self._key = client.card.volume_key(spec)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(address))
        self._socket.sendall(wire.frame(m.Hello(m.PROTOCOL)))
        prefix, fds, _, _ = socket.recv_fds(self._socket, 1, 1)
        welcome = wire.receive(self._socket, m.Welcome, prefix)
        self._ring = RingView(fds[0], welcome.ring, welcome.slots, welcome.slot_bytes)
        os.close(fds[0])

    def see(self) -> None:
        self._socket.sendall(wire.frame(m.Fetch(1, self._spec, None, 60.0)))
        found = wire.receive(self._socket, m.Voxels)
        assert found.key == self._key
        view = self._ring.slot(found.slot)[: found.length].view(np.int16)
        assert view.size == np.prod(found.image_shape)
        self._socket.sendall(wire.frame(m.Taken(1)))


def _produce(
    edge: int, address: Path, pipe: Connection, queue: Any, torch_queue: Any
) -> None:  # pragma: no cover - another process
    """The life of the producer's process."""
    torch.set_num_threads(1)
    volume = ReadyVolume(edge)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    listener.listen()
    stop, stopper = os.pipe()
    # Room for what the ring has slots for, and for as many that are kept elsewhere.
    with Engine(volume, memory_bytes=2 * MAX_SLOTS * volume.image.nbytes) as engine:
        server = Server(engine, listener)
        thread = Thread(target=server.serve_until, args=([stop],))
        thread.start()
        pipe.send("ready")
        while (wish := pipe.recv()) != "end":
            if wish == "queue":
                queue.put(volume.image)
            else:
                # A tensor that was shared once stays shared: a new volume is a new tensor.
                torch_queue.put(torch.from_numpy(volume.image.copy()))
        os.write(stopper, b"x")
        thread.join()
        server.close()


def _fetched(client: Client, spec: VolumeSpec) -> int:
    return _sum(torch.from_numpy(client.fetch(spec).image))


def _sum(tensor: torch.Tensor) -> int:
    """A number for which every byte had to be read, at the speed of memory."""
    return int(tensor.view(torch.int64).sum())


if __name__ == "__main__":
    main()
