"""Markdown: standings and bars of a record as tables."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

NOT_MEASURED = "not measured"
_UNITS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))


def standing_table(standing: Mapping[str, Any]) -> str:
    """One contest: times with their spread, and beside each what it cost and how exact it was."""
    scores = standing["scores"]
    names = ["", "median", "least to greatest"]
    optional = {
        "rate": f"{standing['item']}s / s" if standing.get("item") else "",
        "first_seconds": "first run",
        "peak_mib": "peak memory",
        "error": standing.get("error_name", ""),
    }
    present = [
        key
        for key, title in optional.items()
        if title and (key == "rate" or any(key in score for score in scores))
    ]
    rows = [
        [_name(score), *_times(score), *(_cell(key, score) for key in present)] for score in scores
    ]
    notes = [f"- {score['name']}: {score['note']}" for score in scores if score.get("note")]
    head = [*names, *(optional[key] for key in present)]
    parts = [f"**{standing['title']}**", table(head, rows)]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def bars_table(bars: Sequence[Mapping[str, Any]]) -> str:
    """What was asked for, what came out."""
    verdicts = {True: "met", False: "**not met**", None: NOT_MEASURED}
    rows = [
        [
            bar["name"],
            f"{'≤' if bar['most'] else '≥'} {bar['limit']:g}",
            "–" if bar["value"] is None else f"{bar['value']:.4g}",
            verdicts[bar["met"]],
        ]
        for bar in bars
    ]
    return table(["bar", "asked", "came out", ""], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it reads as text, too."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def duration(seconds: float) -> str:
    """Three digits and the unit in which they read best."""
    factor, unit = next((f, u) for least, f, u in _UNITS if seconds >= least)
    value = seconds * factor
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def _name(score: Mapping[str, Any]) -> str:
    return f"**{score['name']}**" if score["is_ours"] else str(score["name"])


def _times(score: Mapping[str, Any]) -> list[str]:
    if "median_seconds" not in score:
        return [NOT_MEASURED, score.get("failure", "")]
    low, high = duration(score["least_seconds"]), duration(score["greatest_seconds"])
    return [duration(score["median_seconds"]), f"{low} to {high}, {score['runs']} runs"]


def _cell(key: str, score: Mapping[str, Any]) -> str:
    if key == "rate":
        is_known = score.get("items") and "median_seconds" in score
        return f"{score['items'] / score['median_seconds']:.3g}" if is_known else "–"
    value = score.get(key)
    if value is None:
        return "–"
    if key == "first_seconds":
        return duration(value)
    if key == "peak_mib":
        return f"{value:.0f} MiB" if value >= 10 else f"{value:.1f} MiB"
    return "0" if value == 0 else f"{value:.1e}"
