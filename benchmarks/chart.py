"""Chart: the contests of a record as a picture, ours in colour among peers in grey."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.markdown import duration

matplotlib.use("agg")

OURS, PEER, INK = "#1b7f5c", "#b9bec4", "#30363d"
_WIDE = 20.0  # from this ratio of slowest to fastest on, bars stand on a logarithmic scale
_BAR_INCHES, _FRAME_INCHES, _WIDTH_INCHES = 0.34, 0.95, 9.0


def draw(contests: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the chart of some contests as PNG: bars for each, or lines over `x` if all have it.

    Args:
        contests: From a record.
        path: Of the PNG.
    """
    figure = _lines(contests) if all("x" in contest for contest in contests) else _bars(contests)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white", metadata={"Software": ""})
    plt.close(figure)


def _bars(contests: Sequence[Mapping[str, Any]]) -> Figure:
    heights = [_FRAME_INCHES + _BAR_INCHES * len(_timed(contest)) for contest in contests]
    figure, axes = plt.subplots(
        len(contests),
        1,
        figsize=(_WIDTH_INCHES, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for contest, axis in zip(contests, axes[:, 0], strict=True):
        _bar_chart(contest, axis)
    return figure


def _bar_chart(contest: Mapping[str, Any], axis: Axes) -> None:
    scores = _timed(contest)
    medians = [score["median_seconds"] for score in scores]
    spread = [
        [score["median_seconds"] - score["least_seconds"] for score in scores],
        [score["greatest_seconds"] - score["median_seconds"] for score in scores],
    ]
    places = range(len(scores))
    axis.barh(
        places,
        medians,
        xerr=spread,
        color=[OURS if score["is_ours"] else PEER for score in scores],
        error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2.5},
    )
    axis.set_yticks(places, [score["name"] for score in scores])
    axis.invert_yaxis()
    greatest = max((score["greatest_seconds"] for score in scores), default=1.0)
    if medians and max(medians) > _WIDE * min(medians):
        axis.set_xscale("log")
        axis.set_xlim(min(score["least_seconds"] for score in scores) / 2, greatest * 5)
    else:
        axis.set_xlim(0, greatest * 1.18)
    for place, score in zip(places, scores, strict=True):
        axis.annotate(
            duration(score["median_seconds"]),
            (score["greatest_seconds"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    axis.set_title(contest["title"], fontsize=10, loc="left")
    axis.set_xlabel("seconds: median, least and greatest", fontsize=8)
    _plain(axis)


def _lines(contests: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axis = plt.subplots(figsize=(_WIDTH_INCHES, 5.0), layout="constrained")
    names = dict.fromkeys(score["name"] for contest in contests for score in _timed(contest))
    for name in names:
        found = [
            (contest["x"], score)
            for contest in contests
            for score in _timed(contest)
            if score["name"] == name
        ]
        xs = [x for x, _ in found]
        medians = [score["median_seconds"] for _, score in found]
        is_ours = bool(found[0][1]["is_ours"])
        (line,) = axis.plot(xs, medians, "o-" if is_ours else "s--", markersize=4, label=name)
        axis.fill_between(
            xs,
            [score["least_seconds"] for _, score in found],
            [score["greatest_seconds"] for _, score in found],
            color=line.get_color(),
            alpha=0.12,
            linewidth=0,
        )
    xs = sorted({contest["x"] for contest in contests})
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(xs, [f"{x:g}" for x in xs])
    axis.minorticks_off()
    axis.set_xlabel(contests[0].get("x_name", ""))
    axis.set_ylabel("seconds: median, with least and greatest")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    _plain(axis)
    return figure


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def _timed(contest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [score for score in contest["scores"] if "median_seconds" in score]
