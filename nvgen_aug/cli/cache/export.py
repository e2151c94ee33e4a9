"""`nvgen-aug cache export`: stored volumes as NIfTI files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import final

import typer

from ...errors import NvgenError
from ...spec import VolumeSpec
from ..bids import BidsFolder
from ..meter import Meter
from ..terminal import answer
from ..terminal import fail
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import say
from ..volume_files import VolumeFiles
from .folder import Folder
from .folder import existing

if TYPE_CHECKING:
    from ...card import VariantCard
    from ...provenance import Provenance


def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="Folder to write to; made if it is not there.")],
    bids: Annotated[
        bool, typer.Option("--bids", help="Lay the folder out as a BIDS derivative dataset.")
    ] = False,
) -> None:
    """Write every stored volume as a NIfTI image, a NIfTI label and a JSON sidecar.

    Files are named by variant and key, and the sidecar tells where a volume came from.
    What is there already is kept, so an export that was stopped goes on. Latents without
    voxels are left out: `nvgen-aug cache warm` decodes them where there is room.

    \b
    Example:
      nvgen-aug cache export cache/ volumes/
    """
    from ...cache import Upkeep  # heavy, and --help does without it

    upkeep = Upkeep(existing(folder), read_only=True)
    held = [entry for entry in upkeep.entries() if entry.kind == "volumes"]
    cards = _Cards()
    paths: list[str] = []
    made = damaged = 0
    safe = f"whole volumes are in {out}; the same command writes the rest"
    with interruptible(safe), Meter(f"writing {out}", len(held), "volume") as meter:
        for entry in held:
            try:
                volume = upkeep.volume(entry.key)
                spec = None if volume is None else VolumeSpec.from_json(volume.provenance.spec)
            except NvgenError as error:
                damaged += 1
                fail(str(error))
                volume = spec = None
            if volume is None or spec is None:
                meter.skip()
                continue
            card = cards.of(volume.provenance)
            name = _name(volume.provenance, entry.key)
            files = BidsFolder(out).files(name, spec) if bids else VolumeFiles(out, name)
            paths.append(str(files.image))
            if files.hold(entry.key):
                meter.skip()
                continue
            files.write(volume, spec, card)
            made += 1
            meter.advance()
    if bids and paths:
        BidsFolder(out).describe(*cards.only())
    say(f"{made} written, {len(paths) - made} were there")
    if not held:
        hint(f"there are no volumes in {folder}; nvgen-aug cache stats {folder} tells what is")
    answer(paths)
    if damaged:
        raise typer.Exit(1)


@final
class _Cards:
    """Cards of the variants that made the volumes, for the names of their labels."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, VariantCard | None] = {}

    def of(self, provenance: Provenance) -> VariantCard | None:
        """The card of a volume's own weights; `None` if these are not here."""
        name = provenance.variant
        if name not in self._known:
            self._known[name] = _card(name)
        card = self._known[name]
        if card is not None and card.weights_digest == provenance.weights_digest:
            return card
        return None

    def only(self) -> tuple[VariantCard | None, tuple[str, ...]]:
        """The one card of all volumes, or `None` if they are of several, and the variants."""
        cards = list(self._known.values())
        return cards[0] if len(cards) == 1 else None, tuple(self._known)


def _name(provenance: Provenance, key: str) -> str:
    # A cache is not trusted so far as to name a file wherever it likes.
    variant = re.sub(r"[^A-Za-z0-9-]", "_", provenance.variant)[:64]
    return f"{variant}_{key[:16]}"


def _card(variant: str) -> VariantCard | None:
    from ...assembly import load_generator  # heavy, and --help does without it

    try:
        generator = load_generator(variant)
    except NvgenError as error:
        hint(f"sidecars of `{variant}` say nothing of its labels: {error}")
        return None
    generator.close()
    return generator.card
