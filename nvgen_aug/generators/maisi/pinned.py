"""PinnedMemory: memory into which a GPU writes by itself, while it computes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PORTABLE = 1  # cudaHostRegisterPortable: for every context of the process

_log = logging.getLogger(__name__)


@final
class PinnedMemory:
    """Memory that is registered with CUDA until `release`.

    A copy into memory that is not goes through a buffer of the driver, and the program waits for
    it. If the system refuses, for instance because too little memory may be locked, it is said,
    and copies are slower.

    Args:
        memory: Such as the ring of a server; it stays mapped for as long as this object has it.
        runtime: `torch.cuda.cudart()`.
    """

    def __init__(self, memory: NDArray[np.uint8], runtime: Any) -> None:
        self._runtime = runtime
        code = int(runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, _PORTABLE))
        self._memory: NDArray[np.uint8] | None = None if code else memory
        if code:
            _log.warning(
                "%d MiB cannot be registered with CUDA (error %d), so volumes leave the GPU more "
                "slowly; `ulimit -l` says how much memory may be locked",
                memory.nbytes >> 20,
                code,
            )

    @property
    def is_pinned(self) -> bool:
        """Whether CUDA has it now."""
        return self._memory is not None

    def release(self) -> None:
        """Take it back from CUDA; a second call does nothing."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self._runtime.cudaHostUnregister(memory.ctypes.data)
