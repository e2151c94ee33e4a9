"""What the tests of serving share: a generator that waits for a sign, and a server in a thread."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving.connection import PREFIX
from nvgen_aug.serving.engine import Engine
from nvgen_aug.serving.place import SOCKET_NAME
from nvgen_aug.serving.place import listen
from nvgen_aug.serving.ring import Ring
from nvgen_aug.serving.server import MAX_WAITING
from nvgen_aug.serving.server import Server
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import Generated
from nvgen_aug.volume import Latent
from nvgen_aug.volume import SyntheticVolume

SECONDS = 20.0  # more than anything here takes; a test that waits so long fails


class Gated:
    """A phantom that begins each volume only when told to, and notes the order of seeds."""

    def __init__(self) -> None:
        self.phantom = PhantomGenerator()
        self.begun = Event()
        self.gate = Event()
        self.seeds: list[int] = []
        self.is_closed = False
        self.on_progress = self.phantom.on_progress
        self.new_image = self.phantom.new_image

    def prove(self) -> None:
        self.phantom.prove()

    def use_less_memory(self) -> bool:
        return False

    @property
    def card(self) -> VariantCard:
        return self.phantom.card

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        self.seeds.append(spec.seed)
        self.begun.set()
        self.gate.wait(SECONDS)
        return self.phantom.generate(spec, mask)

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        return self.phantom.decode(latent, crop)

    def crop_share(self, latent: Latent, crop: Crop) -> float:
        return self.phantom.crop_share(latent, crop)

    def pin(self, memory: NDArray[np.uint8]) -> None:
        self.phantom.pin(memory)

    def close(self) -> None:
        self.is_closed = True


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory with mode 0700 and a short path."""
    with tempfile.TemporaryDirectory(prefix="nvgen-test-") as name:
        yield Path(name)


@contextmanager
def served(
    engine: Engine,
    ring: Ring | None = None,
    path: Path | None = None,
    max_waiting: int = MAX_WAITING,
) -> Iterator[tuple[Server, str]]:
    """A server in a thread of this process, and its address; the engine is closed, too."""
    with ExitStack() as stack:
        path = path or stack.enter_context(private_directory()) / SOCKET_NAME
        server = Server(engine, listen(path), ring, max_waiting=max_waiting)
        stop, poke = os.pipe()
        thread = Thread(target=server.serve_until, args=([stop],))
        thread.start()
        try:
            yield server, f"{PREFIX}{path}"
        finally:
            os.write(poke, b"!")
            thread.join()
            engine.close()
            server.close()
            path.unlink()
            os.close(stop)
            os.close(poke)
