"""Mishaps: what a generator's exception means for the process that met it."""

from __future__ import annotations

from ..errors import DeviceLost
from ..errors import GenerationError
from ..errors import NvgenError
from ..errors import OutOfMemory

# After one of these every further call on the device fails as well, whatever it is: the CUDA
# programming guide calls such errors sticky, and only a new process gets rid of them.
_STICKY = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ecc error",
    "hardware stack error",
    "unrecoverable",
    "driver shutting down",
    "device lost",
    "gpu is lost",
)


def explained(error: BaseException, what: str) -> NvgenError:
    """An exception of a generator in the class that says what to do about it.

    torch's own classes are known by their names: a process without torch need not load it.

    Args:
        error: What was raised.
        what: What was being made, for the text.
    """
    if isinstance(error, NvgenError):
        return error
    text = f"{what}: {type(error).__name__}: {error}"
    low = str(error).lower()
    names = {kind.__name__ for kind in type(error).__mro__}
    is_of_device = "AcceleratorError" in names or "cuda error" in low or "cudnn error" in low
    if is_of_device and any(sign in low for sign in _STICKY):
        return DeviceLost(f"{text}; the device needs a new process")
    if "OutOfMemoryError" in names or isinstance(error, MemoryError) or "out of memory" in low:
        return OutOfMemory(f"{text}; ask for a smaller size, or give it a larger device")
    return GenerationError(text)
