"""Memory: how much more a piece of work holds at its worst than before it began."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_THE_PEAK = "5"  # man 5 proc: resets VmHWM to what is resident now


def peak_mib(run: Callable[[], Any], device: str = "cpu") -> float | None:
    """Most MiB held during `run` above what was held before; the result counts, too.

    On a GPU it is what torch's allocator gave out there. On a processor it is the high-water
    mark of the process's resident memory, which sees the scratch space of libraries as well.
    `None` where the system does not tell.

    Args:
        run: The work.
        device: Where its memory is.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = run()
        torch.cuda.synchronize(device)
        del result
        return float(torch.cuda.max_memory_allocated(device) - before) / 2**20
    _give_back()
    try:
        _CLEAR.write_text(_FORGET_THE_PEAK, encoding="ascii")
        before = _kilobytes("VmRSS")
    except (OSError, LookupError):
        return None
    result = run()
    peak = _kilobytes("VmHWM")
    del result
    return max(peak - before, 0) / 1024


def _give_back() -> None:
    """Let the C library return what it keeps: work must not run on memory of the last one."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)
