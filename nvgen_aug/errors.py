"""Errors: what can go wrong, each with a text that names the cause and the next step.

    NvgenError
    ├── SpecError            a volume was asked for that cannot be made
    ├── RatioError           a share, or a schedule of it, that is none
    ├── LabelError           names or ids that the vocabulary lacks
    ├── DataError            the caller's own images, labels or data lists
    ├── WeightsError         weights missing, truncated or of other shape
    ├── CacheError           a cache folder that cannot be used
    ├── GenerationError      the generator failed on a legal request
    │   ├── QualityError         what it made failed the checks, as often as it was tried
    │   ├── OutOfMemory          it needs more memory than there is
    │   └── DeviceLost           its device cannot be used again by this process
    ├── BackendError         a way to run networks that is not there, or computes something else
    └── SourceError          a volume source that cannot answer
        ├── ServerUnavailable    nobody answers at the address
        ├── ServerDied           the connection broke while a request was under way
        ├── FetchTimeout         no answer within the deadline
        ├── GeneratorBroken      one volume after another cannot be made
        ├── RankFailed           a rank of a distributed run cannot load, so all stop
        └── WrongProcess         an in-process source was used in another process

Every class is built from one string, because a `DataLoader` worker can only
hand such exceptions to its parent. `SpecError`, `RatioError`, `LabelError`
and `DataError` are also `ValueError`s.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class NvgenError(Exception):
    """Anything this package raises on purpose."""


class SpecError(NvgenError, ValueError):
    """A volume was asked for that the variant cannot make."""


class RatioError(NvgenError, ValueError):
    """A share of synthetic samples that is not a number in [0, 1], or a schedule that cannot be."""


class LabelError(NvgenError, ValueError):
    """Label names or ids that the vocabulary does not have."""


class DataError(NvgenError, ValueError):
    """Images, labels or data lists of the caller that cannot be used."""


class WeightsError(NvgenError):
    """Weights that are missing, truncated or made for another network."""


class CacheError(NvgenError):
    """A cache folder that cannot be read or written."""


class GenerationError(NvgenError):
    """The generator failed on a legal request."""


class QualityError(GenerationError):
    """What was made is nothing to hand out, and so was what was made in its place.

    Attributes:
        rejected: A reason for each thing that was wrong, for counting. It stays in the process
            that raised the error.
    """

    rejected: tuple[str, ...] = ()


class OutOfMemory(GenerationError):
    """A generation needs more memory than there is."""


class DeviceLost(GenerationError):
    """The generator's device cannot be used again by this process."""


class BackendError(NvgenError):
    """A way to run the networks that is missing here, or that computes something else."""


class SourceError(NvgenError):
    """A volume source that cannot answer."""


class ServerUnavailable(SourceError):
    """Nobody answers at the address."""


class ServerDied(SourceError):
    """The connection broke while a request was under way."""


class FetchTimeout(SourceError):
    """No answer came within the deadline."""


class GeneratorBroken(SourceError):
    """One volume after another cannot be made, so that substitutes would hide a fault."""


class RankFailed(SourceError):
    """A rank of a distributed run cannot load its batch, so that all of them stop."""


class WrongProcess(SourceError):
    """An in-process source was used in a process that did not make it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause with close matches for an unknown name, or with all known names."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"`{match}`" for match in close) + "?"
    return "known are " + ", ".join(f"`{known_name}`" for known_name in names[:12])
