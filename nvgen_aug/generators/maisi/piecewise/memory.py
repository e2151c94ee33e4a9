"""Memory: how much of it is free on a device, and whether an error means that it was too little."""

from __future__ import annotations

from pathlib import Path

import torch

# Files of Linux that say how much a process may still take.
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that could be allocated now, or `None` where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has reserved and does not use, it gives again.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + idle)
    known = [n for n in (_available(), _left_in_group()) if n is not None]
    return min(known, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has one for each of its allocators."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kibibytes) << 10 for kibibytes in values), None)


def _left_in_group() -> int | None:
    """What the limit of a container leaves, where it has one."""
    try:
        most = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    if not most.isdigit():
        return None  # "max"
    # Pages of files that nobody looked at lately are given up at once.
    idle = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(int(most) - used + idle, 0)
