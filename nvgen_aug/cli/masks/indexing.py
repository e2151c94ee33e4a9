"""`nvgen-aug masks index`: a folder of masks, read once so that volumes can choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from ...errors import DataError
from ...errors import SpecError
from ...errors import did_you_mean
from ..terminal import answer
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import progress
from ..terminal import say

if TYPE_CHECKING:
    from ...generators.maisi.masks.bank.entry import BankEntry

SHOWN = 10  # reasons of files that cannot be used; more scroll away


def index(
    place: Annotated[
        Path, typer.Argument(help="Folder or zip archive of NIfTI masks, or NV-Generate's list.")
    ],
    variant: Annotated[
        str, typer.Option(help="Whose label ids the masks have: rflow-ct, ddpm-ct or tiny-brain.")
    ] = "rflow-ct",
    files: Annotated[
        Path | None, typer.Option(help="Where the masks of a list lie, if not beside it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The index to write; with the masks if not given.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Masks that are read at a time.")] = 2,
) -> None:
    """Read every mask once and write one index of them.

    A mask may have any orientation, size and spacing. The index holds, for each, its file,
    SHA-256, size, spacing, labels with volumes, regions of the body, and tumours with
    diameters. What was indexed before and has not changed is not read again.

    \b
    Example:
      nvgen-aug masks index labels/
      nvgen-aug masks index datasets/candidate_masks_flexible_size_and_spacing_4000.json
    """
    # Heavy, and --help does without them.
    from ...generators.maisi.masks.bank.bank import index_beside
    from ...generators.maisi.masks.bank.indexing import index_masks
    from ...generators.maisi.variants import VARIANTS

    drawn = [name for name, known in VARIANTS.items() if known.has_control]
    if variant not in drawn:
        msg = f"no variant `{variant}` follows masks; {did_you_mean(variant, drawn)}"
        raise SpecError(msg)
    path = out or index_beside(place)
    partial = path.with_name(f"{path.name}.partial")
    safe = "what was read is kept, and the same command goes on"
    with interruptible(safe), progress() as bar:
        task = bar.add_task("masks", total=None)
        found = index_masks(
            place,
            VARIANTS[variant],
            files=files,
            earlier=[*_known(path, variant), *_known(partial, variant)],
            threads=threads,
            on_mask=lambda done, total: bar.update(task, completed=done, total=total),
            on_part=lambda bank: bank.save(partial),
        )
    found.bank.save(path)
    partial.unlink(missing_ok=True)
    for name, why in list(found.skipped.items())[:SHOWN]:
        say(f"left out: {why if name in why else f'`{name}`: {why}'}")
    if len(found.skipped) > SHOWN:
        say(f"left out: {len(found.skipped) - SHOWN} more")
    say(
        f"{len(found.bank.entries)} masks indexed, {found.kept} of them as before; "
        f"{len(found.skipped)} left out"
    )
    hint(f"nvgen-aug masks list {path}")
    hint(f"nvgen-aug generate {variant} --masks {path} --out volumes/")
    answer([str(path)])


def _known(path: Path, variant: str) -> Sequence[BankEntry]:
    """What an index that was written before knows; nothing if it is damaged or another's."""
    from ...generators.maisi.masks.bank.bank import MaskBank

    try:
        bank = MaskBank.open(path) if path.exists() else None
    except DataError as error:
        say(f"{error}; everything is read anew")
        return ()
    return bank.entries if bank is not None and bank.variant == variant else ()
