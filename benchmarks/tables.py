"""Tables: docs/benchmarks.md and its charts, made from the records and from nothing else.

    python -m benchmarks.tables

Every question has its place on the page. Where there is no record it says "not measured".
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.chart import draw
from benchmarks.markdown import NOT_MEASURED
from benchmarks.markdown import bars_table
from benchmarks.markdown import standing_table
from benchmarks.timing import RESULTS
from nvgen_aug.cli.suite import Suite
from nvgen_aug.record import RunRecord

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CHARTS = Path("images") / "benchmarks"
INTRODUCTION = """# Benchmarks

Made by `python -m benchmarks.tables` from [the records](../benchmarks/results): not to be edited.
`make benchmarks` measures all of it on your machine, `nvgen-aug bench NAME` one part.

Ours is set in bold. In each table all took turns in one run, on the same inputs and, where there
are networks, with the same weights. A time is the median, with the least and the greatest beside
it; no ratio between two tables means anything. Peak memory is what a run held at its worst above
what was held before it. On a machine that others use at the same time, all times are larger and
less sure: the load average of the last 1, 5 and 15 minutes tells."""


def main() -> None:
    """Write the page and the charts."""
    for path in sorted(RESULTS.glob("*.json")):
        contests = RunRecord.read(path).numbers.get("contests")
        if contests:
            draw(contests, PAGE.parent / CHARTS / f"{path.stem}.png")
    PAGE.write_text(page(RESULTS), encoding="utf-8")
    print(f"page: {PAGE}", file=sys.stderr)


def page(results: Path) -> str:
    """The page for a folder of records."""
    suite = Suite.find(ROOT / "nvgen_aug")
    parts = [INTRODUCTION]
    for name, question in suite.questions.items():
        parts += [f"## {question}", *_how(name), *_record(results / f"{name}.json")]
        if name in suite.with_device:
            parts += ["### On a GPU", *_record(results / f"{name}-cuda.json")]
    return "\n\n".join(parts) + "\n"


def _how(name: str) -> Iterator[str]:
    """What a benchmark says of itself, less its question and how it is called."""
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    _, *paragraphs = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")
    yield f"`nvgen-aug bench {name}`"
    for paragraph in paragraphs:
        if paragraph.startswith("    python -m"):
            continue
        if paragraph.startswith("    "):
            yield f"```\n{paragraph}\n```"
        else:
            yield paragraph


def _record(path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{NOT_MEASURED.capitalize()}."
        return
    record = RunRecord.read(path)
    yield _circumstances(record)
    contests: list[dict[str, Any]] = record.numbers.get("contests", [])
    for contest in contests:
        yield standing_table(contest)
    if bars := record.numbers.get("bars"):
        yield bars_table(bars)
    if contests:
        yield f"![{path.stem}, as a chart]({(CHARTS / path.stem).as_posix()}.png)"
    # A benchmark that is no contest lays its own table and plot beside its record.
    if path.with_suffix(".md").is_file():
        yield path.with_suffix(".md").read_text(encoding="utf-8").strip()
    if path.with_suffix(".png").is_file():
        yield f"![{path.stem}, as a plot](../benchmarks/results/{path.stem}.png)"


def _circumstances(record: RunRecord) -> str:
    """When, where and under which load it was measured."""
    device, settings = record.device, record.settings
    facts = [record.when[:10], f"{device['processor']}, {device['cores']} cores"]
    facts += [str(device["gpu"])] if device["gpu"] != "none" else []
    if "load_average" in settings:
        loads = ", ".join(f"{load:.1f}" for load in settings["load_average"])
        facts.append(f"load average {loads}")
    facts.append(f"torch {record.packages.get('torch', '?')}")
    file = f"{record.name.removeprefix('benchmarks.')}.json"
    return f"Measured {'; '.join(facts)}; [record](../benchmarks/results/{file})."


if __name__ == "__main__":
    main()
