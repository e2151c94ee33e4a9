"""Failures: volumes that could not be made, counted over the processes of a run."""

from __future__ import annotations

import os
import warnings
from typing import Any
from typing import final

import torch

from ..errors import GenerationError
from ..errors import GeneratorBroken
from .report import FailureCount

# A process counts in the row of its id; a prime, so that neighbours rarely meet.
ROWS = 1021


class SubstituteWarning(UserWarning):
    """A volume could not be made, and something else stands in its place."""


@final
class Failures:
    """Counts failures in this process and in the workers of its loaders.

    The numbers lie in shared memory without a name, which forked and spawned workers
    map too; so the process that trains can report what its workers met. A pickled
    file or a deep copy counts for itself.

    Args:
        tolerance: Failures in a row that a process bears; one more is an error.
    """

    __slots__ = ("_counts", "_in_a_row", "_warned_in", "tolerance")

    def __init__(self, tolerance: int) -> None:
        self.tolerance = tolerance
        self._counts = _shared(torch.zeros(ROWS, 3, dtype=torch.int64))
        self._in_a_row = 0
        self._warned_in = 0

    def count(self) -> FailureCount:
        """The sum over all processes."""
        return FailureCount(*(int(n) for n in self._counts.sum(dim=0)))

    def made(self) -> None:
        """A planned volume came; failures before it are no longer in a row."""
        self._in_a_row = 0

    def failed(self, what: str, error: GenerationError) -> None:
        """Count a planned volume that failed, and say so the first time in this process.

        Raises:
            GeneratorBroken: if more failed in a row than is borne; with the last error.
        """
        self.add(failed=1)
        self._in_a_row += 1
        if self._in_a_row > self.tolerance:
            msg = (
                f"{self._in_a_row} volumes in a row failed, {self.tolerance} are tolerated; the "
                f"last, {what}, said: {error}; mend the generator or the recipe, or raise "
                "`failure_tolerance`"
            )
            raise GeneratorBroken(msg) from error
        if self._warned_in != os.getpid():
            self._warned_in = os.getpid()
            text = (
                f"{what} could not be made ({error}); something else stands in its place, and "
                "further ones are only counted: see `report()`, and `status` in the provenance"
            )
            warnings.warn(text, SubstituteWarning, stacklevel=2)

    def add(self, failed: int = 0, by_volume: int = 0, by_real: int = 0) -> None:
        """Count for this process."""
        self._counts[os.getpid() % ROWS] += torch.tensor([failed, by_volume, by_real])

    def __getstate__(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance, "_counts": self._counts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.tolerance, counts = state["tolerance"], state["_counts"]
        # A worker of a loader is handed the very memory; every other copy gets its own.
        self._counts = counts if counts.is_shared() else _shared(counts.clone())
        self._in_a_row = self._warned_in = 0


def _shared(counts: torch.Tensor) -> torch.Tensor:
    shared: torch.Tensor = counts.share_memory_()  # type: ignore[no-untyped-call]
    return shared
