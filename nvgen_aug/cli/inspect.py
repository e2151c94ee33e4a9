"""`nvgen-aug inspect`: what a training run saw, from the record it wrote."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from ..errors import DataError
from .terminal import answer
from .terminal import fail
from .terminal import hint
from .terminal import say

if TYPE_CHECKING:
    from ..data.manifest import Manifest
    from ..evaluation.run_summary import Exposure
    from ..evaluation.run_summary import RunSummary
    from ..evaluation.run_summary import ShareRow

_MOST_EPOCHS = 12  # in the terminal; the page has more


def inspect(
    run: Annotated[Path, typer.Argument(help="Folder that `train.record_to` was given.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and the manifest.", show_default="the run's"),
    ] = None,
    page: Annotated[bool, typer.Option(help="Write inspect.html and manifest.parquet.")] = True,
) -> None:
    """Show what a training run saw: shares, exposure, and whether its record is whole.

    The events of the run are read and their chain is verified; a broken one is told
    with the line, and ends with status 1. A line left unfinished by a killed writer is
    told and breaks nothing.

    Printed are the asked and the delivered share of the run, its epochs, ranks and
    workers, the samples and voxels of each class and stratum, and how well six numbers
    of an image tell real from synthetic before and after augmentation. A page with
    plots and manifest.parquet, one row a sample, are written beside the events; the
    detector and the manifest need `pip install 'nvgen_aug[study]'`.

    \b
    Example:
      nvgen-aug inspect runs/liver-30
    """
    from ..data.events import EventLog  # heavy, and --help does without them
    from ..data.manifest import Manifest

    manifest = Manifest.of(EventLog(run).read())
    if not manifest.rows:
        msg = f"{run} has no samples yet; they are written while a loader is walked"
        raise DataError(msg)
    summary = _summary(manifest)
    answer(_lines(summary))
    if page:
        _write(manifest, summary, run if out is None else out)
    _verify(manifest)


def _summary(manifest: Manifest) -> RunSummary:
    from ..evaluation.run_summary import RunSummary

    try:
        return RunSummary.of(manifest)
    except DataError as error:
        hint(str(error))
        return RunSummary.of(manifest, detect=False)


def _write(manifest: Manifest, summary: RunSummary, folder: Path) -> None:
    from ..evaluation.run_page import NAME
    from ..evaluation.run_page import write_page

    folder.mkdir(parents=True, exist_ok=True)
    writers: tuple[Callable[[], Path], ...] = (
        lambda: manifest.write(folder),
        lambda: write_page(manifest, summary, folder / NAME),
    )
    for write in writers:
        try:
            say(f"written: {write()}")
        except DataError as error:
            hint(str(error))


def _verify(manifest: Manifest) -> None:
    chain = manifest.chain
    for line in chain.torn:
        say(f"line {line} of the events was left unfinished by a writer that was killed")
    for sentence in chain.breaks:
        fail(f"the events are broken: {sentence}")
    if chain.breaks:
        raise typer.Exit(1)
    say(f"{len(chain.events)} events, their chain is whole up to {chain.head[:16]}…")


def _lines(summary: RunSummary) -> list[str]:
    whole = summary.whole
    lines = [
        f"asked {whole.asked:.2%} synthetic, delivered {whole.delivered:.2%}: {whole.synthetic} "
        f"of {whole.samples} samples, at most {summary.boundary:.2f} apart at any step",
        f"{summary.volumes} different volumes, each used at most {summary.most_uses} times",
        "status: " + ", ".join(f"{name} {n}" for name, n in summary.statuses.items()),
    ]
    for title, shares in (
        ("epoch", summary.epochs),
        ("rank", summary.ranks),
        ("worker", summary.workers),
    ):
        lines += ["", *_share_table(title, shares)]
    for title, entries in (("class", summary.classes), ("stratum", summary.strata)):
        if entries:
            lines += ["", *_exposure_table(title, entries)]
    lines += ["", "seconds to load a sample (median, 95th percentile)"]
    lines += [f"  {one.name:<10} {one.median:8.3f} {one.slow:8.3f}" for one in summary.loading]
    if summary.prepared is not None and summary.delivered is not None:
        lines += [
            "",
            "can six numbers of an image tell real from synthetic?",
            f"  before augmentation: {summary.prepared}",
            f"  as the network sees: {summary.delivered}",
        ]
    return lines


def _share_table(title: str, shares: Sequence[ShareRow]) -> list[str]:
    shown = shares if len(shares) <= _MOST_EPOCHS else shares[: _MOST_EPOCHS - 1]
    wide = max(len(title), *(len(share.name) for share in shown))
    lines = [f"{title:<{wide}}  {'samples':>8}  {'synthetic':>9}  {'asked':>8}  {'delivered':>9}"]
    lines += [
        f"{share.name:<{wide}}  {share.samples:>8}  {share.synthetic:>9}  "
        f"{share.asked:>8.2%}  {share.delivered:>9.2%}"
        for share in shown
    ]
    if len(shown) < len(shares):
        lines.append(f"… and {len(shares) - len(shown)} more")
    return lines


def _exposure_table(title: str, entries: Sequence[Exposure]) -> list[str]:
    wide = max(len(title), *(len(entry.name) for entry in entries))
    head = f"{title:<{wide}}  {'real':>8}  {'synthetic':>9}"
    has_voxels = any(entry.real_voxels or entry.synthetic_voxels for entry in entries)
    lines = [head + (f"  {'real voxels':>14}  {'synthetic voxels':>16}" if has_voxels else "")]
    for entry in entries:
        line = f"{entry.name:<{wide}}  {entry.real:>8}  {entry.synthetic:>9}"
        if has_voxels:
            line += f"  {entry.real_voxels:>14}  {entry.synthetic_voxels:>16}"
        lines.append(line)
    return lines
