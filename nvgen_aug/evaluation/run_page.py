"""RunPage: what a run saw, as a page to look at."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ..data.manifest import Manifest
from ..data.traces import FEATURES
from .drawing import COLOURS
from .drawing import drawn
from .page import Page
from .page import facts
from .page import keys
from .page import table
from .run_summary import Exposure
from .run_summary import RunSummary
from .run_summary import ShareRow

NAME = "inspect.html"
_KINDS = ("real", "synthetic")
_LONGEST = 400  # points of a curve: more are not seen
_SHOWN = 40  # rows of a table


def write_page(manifest: Manifest, summary: RunSummary, path: Path) -> Path:
    """Write the page; it appears whole or not at all.

    Args:
        manifest: The samples of the run.
        summary: Its numbers.
        path: Where the page goes.

    Raises:
        DataError: without matplotlib.
    """
    whole = summary.whole
    page = Page(
        "What this run saw",
        f"{path.parent.name}: {whole.samples} samples, of which {whole.synthetic} synthetic",
    )
    if manifest.chain.breaks:
        page.notice(["The record is broken, and cannot be relied on:", *manifest.chain.breaks[:5]])
    page.tiles(
        [
            (f"{whole.asked:.2%}", "share of synthetic samples asked"),
            (f"{whole.delivered:.2%}", "share delivered"),
            (f"{summary.boundary:.2f}", "samples apart at most, at any step"),
            (str(summary.volumes), "different synthetic volumes"),
            (str(summary.most_uses), "uses of one volume at most"),
        ]
    )
    _add_share(page, manifest, summary)
    _add_exposure(page, summary)
    _add_detectability(page, manifest, summary)
    _add_loading(page, summary)
    _add_origin(page, manifest, summary)
    return page.write(path)


def _add_share(page: Page, manifest: Manifest, summary: RunSummary) -> None:
    parts = [
        keys([(COLOURS[0], "asked"), (COLOURS[1], "delivered")]),
        _share_chart(manifest.rows),
    ]
    for title, shares in (
        ("epoch", summary.epochs),
        ("rank", summary.ranks),
        ("worker", summary.workers),
    ):
        parts.append(table([title, "samples", "synthetic", "asked", "delivered"], _cells(shares)))
        if len(shares) > _SHOWN:
            parts.append(f"<p>The first {_SHOWN} of {len(shares)}.</p>")
    page.section(
        "Share of synthetic samples",
        "Up to each step of the run, over all ranks. Ranks are exact as well; the work of a "
        "worker is what the loader gave it, so its share is only near.",
        *parts,
    )


def _add_exposure(page: Page, summary: RunSummary) -> None:
    legend = keys([(COLOURS[0], "real"), (COLOURS[1], "synthetic")])
    for title, text, entries in (
        ("Exposure by class", "Samples in which the class has a voxel.", summary.classes),
        ("Exposure by stratum", "Samples planned for each stratum.", summary.strata),
    ):
        if not entries:
            continue
        rows = [
            [entry.name, *map(str, (entry.real, entry.synthetic)), _voxels(entry)]
            for entry in entries
        ]
        page.section(
            title,
            text,
            legend,
            _exposure_chart(entries, title),
            table(["", "real", "synthetic", "voxels, real / synthetic"], rows),
        )


def _add_detectability(page: Page, manifest: Manifest, summary: RunSummary) -> None:
    before, after = summary.prepared, summary.delivered
    if before is None or after is None:
        return
    page.section(
        "Can the two be told apart?",
        "A logistic regression on six numbers of each image, cross-validated. 0.5 is a coin; "
        "above 0.8 a network has a short cut. It says nothing of subtler traces.",
        facts([("Before augmentation", str(before)), ("As the network sees them", str(after))]),
        keys([(COLOURS[0], "real"), (COLOURS[1], "synthetic")]),
        _fingerprint_chart(manifest),
    )


def _add_loading(page: Page, summary: RunSummary) -> None:
    rows = [
        [one.name, str(one.samples), f"{one.median:.3f} s", f"{one.slow:.3f} s"]
        for one in summary.loading
    ]
    page.section(
        "Time to load a sample",
        "As the process that loaded it measured it, augmentation included.",
        table(["", "samples", "median", "95th percentile"], rows),
    )


def _add_origin(page: Page, manifest: Manifest, summary: RunSummary) -> None:
    chain = manifest.chain
    run = next((event for event in chain.events if event["kind"] == "run"), {})
    settings = manifest.settings
    rows = [
        ("Variant", str(settings.get("variant", "none"))),
        ("Licence of its weights", str(settings.get("licence", "none"))),
        ("SHA-256 of its weights", str(settings.get("weights_digest", "none"))),
        ("Share asked", str(settings.get("ratio", ""))),
        ("Seed", str(settings.get("seed", ""))),
        ("Samples by status", ", ".join(f"{k}: {v}" for k, v in summary.statuses.items())),
        ("Begun (UTC)", str(run.get("when", ""))),
        ("Code", str(run.get("revision") or run.get("packages", {}).get("nvgen_aug", ""))),
        ("Events", f"{len(chain.events)}, the last one {chain.head}"),
        ("Lines left unfinished", ", ".join(map(str, chain.torn)) or "none"),
    ]
    page.section("Where it comes from", "", facts(rows))


def _cells(shares: Sequence[ShareRow]) -> list[list[str]]:
    return [
        [
            share.name,
            str(share.samples),
            str(share.synthetic),
            f"{share.asked:.2%}",
            f"{share.delivered:.2%}",
        ]
        for share in shares[:_SHOWN]
    ]


def _voxels(entry: Exposure) -> str:
    if not entry.real_voxels and not entry.synthetic_voxels:
        return ""
    return f"{entry.real_voxels:,} / {entry.synthetic_voxels:,}".replace(",", " ")


def _share_chart(rows: Sequence[Mapping[str, Any]]) -> str:
    ends: dict[int, int] = {row["step"]: place for place, row in enumerate(rows)}
    asked = list(accumulate(row["asked"] for row in rows))
    found = list(accumulate(row["source"] == "synthetic" for row in rows))
    steps = list(ends)[:: max(1, len(ends) // _LONGEST)]

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        places = [ends[step] for step in steps]
        for sums, colour, width in ((asked, COLOURS[0], 4), (found, COLOURS[1], 1.6)):
            shares = [sums[place] / (place + 1) for place in places]
            axis.plot(steps, shares, color=colour, linewidth=width)
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlabel("step")
        axis.set_ylabel("share so far")
        axis.xaxis.get_major_locator().set_params(integer=True)

    return drawn(draw, "Asked and delivered share of synthetic samples up to each step", 2.6)


def _exposure_chart(entries: Sequence[Exposure], title: str) -> str:
    def draw(figure: Any) -> None:
        axis = figure.subplots()
        names = [entry.name for entry in entries]
        real = [entry.real for entry in entries]
        axis.barh(names, real, color=COLOURS[0], height=0.62)
        axis.barh(
            names,
            [entry.synthetic for entry in entries],
            left=real,
            color=COLOURS[1],
            height=0.62,
        )
        axis.invert_yaxis()
        axis.set_xlabel("samples")
        axis.grid(visible=False, axis="y")
        axis.set_axisbelow(True)

    return drawn(draw, f"{title}, real and synthetic samples", 0.9 + 0.34 * len(entries))


def _fingerprint_chart(manifest: Manifest) -> str:
    rng = np.random.default_rng(0)
    items = [item for item in manifest.items.values() if item.get("delivered")]

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, len(FEATURES), squeeze=False)
        for line, state in enumerate(("prepared", "delivered")):
            for column, name in enumerate(FEATURES):
                axis = axes[line][column]
                for place, (kind, colour) in enumerate(zip(_KINDS, COLOURS, strict=True)):
                    values = [i[state][column] for i in items if i["source"] == kind]
                    spread = place + rng.uniform(-0.22, 0.22, len(values))
                    axis.scatter(spread, values, s=9, color=colour, alpha=0.6, linewidths=0)
                axis.set_xticks([])
                axis.set_xlim(-0.6, 1.6)
                axis.tick_params(labelsize=7.5)
                axis.locator_params(axis="y", nbins=4)
                if line == 0:
                    axis.set_title(name, fontsize=9)
            axes[line][0].set_ylabel("before" if state == "prepared" else "as seen", fontsize=9)

    return drawn(draw, "Six numbers of each image, real and synthetic, before and after", 3.6)
