"""Outcome: what a benchmark ends with, printed as Markdown and kept as a record."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import Bar
from benchmarks.contest import Standing
from benchmarks.markdown import bars_table
from benchmarks.markdown import standing_table
from benchmarks.timing import write_record


def conclude(
    name: str,
    arguments: argparse.Namespace,
    standings: Sequence[Standing],
    bars: Sequence[Bar] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Print the tables and write the record; gives its path.

    A quick run has no bars: its sizes are others than those the bars speak of.

    Args:
        name: Of the benchmark's file.
        arguments: From `quick_parser` or `device_parser`.
        standings: One table each.
        bars: What was asked for.
        settings: What else a reader of the record must know.
    """
    numbers: dict[str, Any] = {"contests": [standing.to_dict() for standing in standings]}
    if bars and not arguments.quick:
        numbers["bars"] = [bar.to_dict() for bar in bars]
    for contest in numbers["contests"]:
        print(standing_table(contest), end="\n\n")
    if "bars" in numbers:
        print(bars_table(numbers["bars"]), end="\n\n")
    facts = {"threads": torch.get_num_threads(), **(settings or {})}
    return write_record(name, facts, numbers, arguments)
