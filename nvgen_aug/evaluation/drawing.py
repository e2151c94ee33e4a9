"""Drawing: a matplotlib figure as SVG that stands inside a page, in one style for all pages."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from ..errors import DataError

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
        msg = "the curves of a page need matplotlib; run `pip install 'nvgen_aug[demo]'`"
        raise DataError(msg) from error


def drawn(draw: Callable[[Any], None], title: str, height: float) -> str:
    """The figure that `draw` fills, as SVG.

    Args:
        draw: Fills a matplotlib figure.
        title: What it shows, for those who do not see it.
        height: In inches, at a width of 10.4.
    """
    # Imported here so that all else, and its errors, do without matplotlib.
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
