"""Generators and engines that go wrong on order; importable, so that a resident process finds them.

An order is a file in a folder, named like the seed whose volume goes wrong. It is taken
away as it is obeyed, so the second try goes well, unless it begins with `always`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nvgen_aug.cache import VolumeCache
from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving.engine import Engine
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import Generated
from nvgen_aug.volume import Latent
from nvgen_aug.volume import SyntheticVolume


class Scripted:
    """A phantom that does to itself what a folder of orders says.

    Args:
        orders: The folder.
        plans: Plans with less memory that it can go over to.
    """

    def __init__(self, orders: Path, plans: int = 1) -> None:
        self.phantom = PhantomGenerator()
        self.on_progress: Callable[[], None] = self.phantom.on_progress
        self.new_image = self.phantom.new_image
        self._orders = orders
        self._plans = plans

    @property
    def card(self) -> VariantCard:
        return self.phantom.card

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        order = self._orders / str(spec.seed)
        if order.exists():
            word = order.read_text()
            if not word.startswith("always "):
                order.unlink()
            FAULTS[word.removeprefix("always ")]()
        return self.phantom.generate(spec, mask)

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        return self.phantom.decode(latent, crop)

    def prove(self) -> None:
        self.phantom.prove()

    def use_less_memory(self) -> bool:
        self._plans -= 1
        return self._plans >= 0

    def pin(self, memory: NDArray[np.uint8]) -> None:
        self.phantom.pin(memory)

    def close(self) -> None:
        self.phantom.close()


def engine(orders: str, cache: str | None = None) -> Engine:
    """What the resident process of a test makes."""
    opened = None if cache is None else VolumeCache(cache, max_bytes="1 GB")
    return Engine(Scripted(Path(orders)), opened)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _hang() -> None:
    Event().wait()


def _pause() -> None:
    time.sleep(1.0)  # as long as a volume may take


def _lose_device() -> NoReturn:
    msg = "CUDA error: device-side assert triggered"
    raise RuntimeError(msg)


class OutOfMemoryError(RuntimeError):
    """torch's, by its name."""


def _tell_a_path() -> NoReturn:
    raise FileNotFoundError(2, "No such file or directory", "/home/jane doe/secret/weights")


def _run_out_of_memory() -> NoReturn:
    msg = "CUDA out of memory. Tried to allocate 20.00 GiB"
    raise OutOfMemoryError(msg)


FAULTS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "stop": _stop,
    "hang": _hang,
    "pause": _pause,
    "lose the device": _lose_device,
    "run out of memory": _run_out_of_memory,
    "tell a path": _tell_a_path,
}
