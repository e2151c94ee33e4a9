"""`nvgen-aug cache gc`: what nobody needs is taken away, and what exceeds a bound."""

from __future__ import annotations

from typing import Annotated

import typer

from ..meter import in_bytes
from ..terminal import answer
from ..terminal import interruptible
from ..terminal import say
from .folder import Folder
from .folder import existing


def gc(
    folder: Folder,
    max_bytes: Annotated[
        str | None, typer.Option(help="Most to keep, such as '20 GB'; if not given, all is kept.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
) -> None:
    """Delete damaged entries that were set aside, what killed writers left, and what is too much.

    Above --max-bytes volumes go first, then latents, then uploads that nobody used for an
    hour; of each kind what was used longest ago. Training may go on meanwhile: what it
    misses is made again. What another machine is writing stays for a day.

    \b
    Example:
      nvgen-aug cache gc cache/ --max-bytes '20 GB' --dry-run
    """
    from ...cache import Upkeep  # heavy, and --help does without it

    upkeep = Upkeep(existing(folder), read_only=dry_run)
    with interruptible("what was removed is gone, and what is there is whole"):
        gone = upkeep.collect(max_bytes, dry_run=dry_run)
    parts = {"quarantined": gone.quarantined, "partial": gone.partial, **gone.evicted}
    rows = [("kind", "entries", "bytes")]
    rows += [(name, str(part.entries), str(part.bytes)) for name, part in parts.items()]
    answer([f"{kind:<12}{entries:>8}{size:>16}" for kind, entries, size in rows])
    freed = sum(part.bytes for part in parts.values())
    verb = "would be removed" if dry_run else "were removed"
    say(f"{in_bytes(freed)} {verb}, entries of {in_bytes(gone.left)} stay")
    if gone.excess:
        say(f"{in_bytes(gone.excess)} of it exceed the bound, for uploads of the last hour")
    if gone.spared.entries:
        say(
            f"{gone.spared.entries} partial entries ({in_bytes(gone.spared.bytes)}) stay: their "
            "writers are at work, or wrote on another machine less than a day ago"
        )
