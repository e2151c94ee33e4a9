"""Timing: repeated measurements as median and spread, printed and kept as a RunRecord."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import final

from nvgen_aug.record import RunRecord

RESULTS = Path(__file__).parent / "results"


@final
@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of repeated runs of one thing.

    Args:
        seconds: One figure for each counted run.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Median, least and greatest, in seconds, and the number of runs."""
        return {
            "median_seconds": round(self.median, 6),
            "least_seconds": round(min(self.seconds), 6),
            "greatest_seconds": round(max(self.seconds), 6),
            "runs": len(self.seconds),
        }


def measure(run: Callable[[], object], *, runs: int, warm_up: int = 1) -> Timing:
    """Time `run` after some uncounted runs."""
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return Timing(tuple(seconds))


def quick_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the `--quick` and `--out` that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small run that proves it works")
    parser.add_argument("--out", type=Path, help=f"folder of the record (default {RESULTS})")
    return parser


def device_parser(description: str) -> argparse.ArgumentParser:
    """A `quick_parser` with the `--device` of a benchmark that runs networks."""
    parser = quick_parser(description)
    parser.add_argument("--device", default="cpu", help="where networks run, such as cuda")
    return parser


def write_record(
    name: str,
    settings: Mapping[str, Any],
    numbers: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> Path:
    """Write the record of a benchmark; a quick run goes to a temporary folder.

    What ran on another device than the processor gets a record of its own, with the kind of the
    device in its name. How busy the machine was is written down with the settings.
    """
    kind = str(getattr(arguments, "device", "cpu")).partition(":")[0]
    if kind != "cpu":
        name = f"{name}-{kind}"
    settings = {
        **settings,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    folder = arguments.out
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-")) if arguments.quick else RESULTS
    record = RunRecord(f"benchmarks.{name}", {**settings, "quick": arguments.quick}, numbers)
    path = record.write(folder / f"{name}.json")
    print(f"record: {path}", file=sys.stderr)
    return path
