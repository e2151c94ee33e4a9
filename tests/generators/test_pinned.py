"""Memory that is registered with CUDA, on a runtime that notes what it was told."""

from __future__ import annotations

import logging

import numpy as np

from nvgen_aug.generators.maisi.pinned import PinnedMemory


class Runtime:
    """As much of CUDA's as is used: it answers with a code and keeps a list of addresses."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.registered: dict[int, int] = {}

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:  # noqa: N802
        assert flags == 1
        if self.code == 0:
            self.registered[address] = nbytes
        return self.code

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        del self.registered[address]
        return 0


def test_memory_is_registered_until_it_is_released() -> None:
    memory, runtime = np.zeros(64, np.uint8), Runtime()
    pinned = PinnedMemory(memory, runtime)
    assert runtime.registered == {memory.ctypes.data: 64}
    assert pinned.is_pinned
    pinned.release()
    pinned.release()
    assert runtime.registered == {}
    assert not pinned.is_pinned


def test_memory_that_cuda_refuses_is_said_and_used_unpinned(caplog) -> None:
    memory, runtime = np.zeros(64, np.uint8), Runtime(code=2)
    with caplog.at_level(logging.WARNING):
        pinned = PinnedMemory(memory, runtime)
    assert "cannot be registered with CUDA (error 2)" in caplog.text
    assert not pinned.is_pinned
    pinned.release()
