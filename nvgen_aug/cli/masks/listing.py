"""`nvgen-aug masks list`: what a bank of masks holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from ..terminal import answer
from ..terminal import say


def list_(
    bank: Annotated[Path, typer.Argument(help="Index, or the folder or archive it belongs to.")],
) -> None:
    """Print how many masks show each label, and how large it is in them.

    Nothing but the index is read.

    \b
    Example:
      nvgen-aug masks list labels/
    """
    from ...generators.maisi.masks.bank.bank import MaskBank  # heavy, and --help does without it

    opened = MaskBank.open(bank)
    entries = opened.entries
    say(f"{len(entries)} masks for `{opened.variant}` in {opened.place}")
    grids = Counter(
        f"{' x '.join(map(str, e.size))} voxels of {' x '.join(f'{mm:g}' for mm in e.spacing)} mm"
        for e in entries
    )
    for grid, count in grids.most_common(5):
        say(f"  {count} of {grid}")
    if len(grids) > 5:
        say(f"  and {len(grids) - 5} sizes and spacings more")
    regions = Counter(" to ".join(dict.fromkeys(e.region)) for e in entries if e.region)
    for region, count in regions.most_common():
        say(f"  {count} show {region}")
    rows = [("label", "masks", "share", "median ml", "diameters in mm, least / median / greatest")]
    order = {name: number for number, name in enumerate(opened.vocabulary)}
    shown = {name for entry in entries for name in entry.labels}
    for name in sorted(shown, key=lambda n: order.get(n, len(order))):
        volumes = [entry.labels[name] / 1000 for entry in entries if name in entry.labels]
        sizes = [mm for entry in entries for mm in entry.tumours.get(name, ())]
        share = f"{len(volumes) / len(entries):.0%}"
        rows.append((name, str(len(volumes)), share, f"{median(volumes):.3g}", _spread(sizes)))
    answer([f"{a:<32}{b:>6}{c:>7}{d:>11}  {e}".rstrip() for a, b, c, d, e in rows])


def _spread(sizes: Sequence[float]) -> str:
    if not sizes:
        return ""
    return f"{min(sizes):.3g} / {median(sizes):.3g} / {max(sizes):.3g} in {len(sizes)} regions"
