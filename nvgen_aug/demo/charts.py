"""Charts: loss and Dice of both runs, as SVG to stand inside a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from ..errors import DataError

if TYPE_CHECKING:
    from .fit import Arm

# Told apart by everybody, also in grey: the second is drawn over the first and dashed nowhere.
COLOURS = ("#64748b", "#d9480f")
_INK = "#334155"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nvgen_aug",  # else two reports of the same run differ
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlepad": 8,
    "axes.edgecolor": "#cbd5e1",
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e9eef4",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def check_drawing() -> None:
    """Raise `DataError` before any work if the package that draws is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        msg = "the report's curves need matplotlib; run `pip install 'nvgen_aug[demo]'`"
        raise DataError(msg) from error


def loss_chart(arms: Sequence[Arm]) -> str:
    """Loss of every optimizer step, and a running mean over it, for each run."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for arm, colour in zip(arms, COLOURS, strict=False):
            steps = range(1, arm.steps + 1)
            axis.plot(steps, arm.losses, color=colour, alpha=0.25, linewidth=0.8)
            axis.plot(steps, _running_mean(arm.losses), color=colour, linewidth=2)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel("loss")

    return _drawn(draw, "Loss of both runs by optimizer step", height=2.9)


def dice_chart(arms: Sequence[Arm]) -> str:
    """Dice on the validation volumes after each epoch: the mean, then each class."""
    names = list(arms[0].epochs[0].dice)

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(names) + 1, squeeze=False, sharey=True)[0]
        for place, axis in enumerate(axes):
            for arm, colour in zip(arms, COLOURS, strict=False):
                scores = [
                    epoch.mean_dice if place == 0 else epoch.dice[names[place - 1]]
                    for epoch in arm.epochs
                ]
                shown = [float("nan") if score is None else score for score in scores]
                epochs = range(1, len(shown) + 1)
                axis.plot(epochs, shown, color=colour, linewidth=2, marker="o", markersize=3.5)
            axis.set_ylim(-0.02, 1.02)
            axis.set_xlim(0.7, len(arms[0].epochs) + 0.3)
            axis.set_title("mean" if place == 0 else names[place - 1], loc="left")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[0].set_ylabel("Dice")

    return _drawn(draw, "Dice of both runs by epoch, mean and by class", height=2.6)


def _drawn(draw: Callable[[Any], None], title: str, height: float) -> str:
    # Imported here so that the rest of the demo, and its errors, do without matplotlib.
    import matplotlib
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, height), layout="constrained")
        draw(figure)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids must not meet those of another chart on the same page.
    prefix = re.sub(r"[^a-z]", "", title.lower())[:12]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _running_mean(losses: Sequence[float]) -> list[float]:
    """Mean over the last twelfth of a run's length, over fewer steps at its beginning."""
    reach = max(1, len(losses) // 12)
    means = []
    for place in range(len(losses)):
        window = losses[max(0, place + 1 - reach) : place + 1]
        means.append(sum(window) / len(window))
    return means
