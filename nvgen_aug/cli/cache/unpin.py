"""`nvgen-aug cache unpin`: volumes that a run needed may go again."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import CacheError
from ...errors import did_you_mean
from ..terminal import say
from .folder import Folder
from .folder import existing


def unpin(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="The NAME of `cache warm --pin NAME`.")],
) -> None:
    """Take back a pin, so that what it kept may be evicted when room is needed.

    \b
    Example:
      nvgen-aug cache unpin cache/ ablation-1
    """
    from ...cache import Upkeep  # heavy, and --help does without it

    upkeep = Upkeep(existing(folder))
    if not upkeep.unpin(name):
        known = upkeep.pins()
        hint = did_you_mean(name, known) if known else "nothing is pinned"
        msg = f"{folder} has no pin `{name}`; {hint}"
        raise CacheError(msg)
    say(f"what `{name}` pinned may be evicted again")
