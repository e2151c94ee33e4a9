"""`nvgen-aug cache verify`: every entry read whole and compared with its checksums."""

from __future__ import annotations

from typing import Annotated

import typer

from ..meter import Meter
from ..meter import in_bytes
from ..terminal import answer
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import say
from .folder import Folder
from .folder import existing


def verify(
    folder: Folder,
    fast: Annotated[
        bool, typer.Option("--fast", help="Compare names and sizes alone; flipped bits stay.")
    ] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Leave what is damaged where it is.")
    ] = False,
) -> None:
    """Read every entry whole and compare SHA-256 and CRC-32 of every file.

    What is damaged goes to the folder quarantine/ and is made again when training asks
    for it. It is listed on stdout, one file a line, and the exit status is then 1.
    Training may go on meanwhile.

    \b
    Example:
      nvgen-aug cache verify cache/
      nvgen-aug cache verify /shared/cache --read-only > damaged.txt
    """
    from ...cache import Upkeep  # heavy, and --help does without it

    upkeep = Upkeep(existing(folder), read_only=read_only)
    before = upkeep.stats()
    # A rate in bytes would tell of bytes that nobody read.
    work = (before.entries, "check") if fast else (before.bytes, None)
    entries = damaged = aside = 0
    safe = "entries stay whole, and the same command begins anew"
    with interruptible(safe), Meter(f"checking {folder}", *work) as meter:
        for checked in upkeep.verify(fast=fast):
            held = checked.held
            entries += 1
            damaged += bool(checked.faults)
            aside += checked.is_aside
            answer([f"{held.kind:<9}{held.key}  {fault}" for fault in checked.faults])
            meter.advance(1 if fast else held.bytes)
    looked = "looked at" if fast else "read"
    said = f"{entries} entries ({in_bytes(before.bytes)}) were {looked}, {damaged} are damaged"
    say(f"{said}, {aside} were moved into {folder}/quarantine" if damaged else said)
    if damaged:
        if aside:
            hint(f"they are made again when needed; nvgen-aug cache gc {folder} deletes them")
        else:
            hint(f"nvgen-aug cache verify {folder} without --read-only sets them aside")
        raise typer.Exit(1)
