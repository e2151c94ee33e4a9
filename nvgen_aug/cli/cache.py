"""`nvgen-aug cache`: what a cache folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import CacheError
from .terminal import answer
from .terminal import hint

cache = typer.Typer(no_args_is_help=True, help="Look into a cache folder.")


@cache.callback()
def _root() -> None:
    """Look into a cache folder."""


@cache.command()
def stats(folder: Annotated[Path, typer.Argument(help="The cache folder.")]) -> None:
    """Print how many volumes, latents and uploads a cache holds, and their bytes.

    \b
    Example:
      nvgen-aug cache stats cache/
    """
    from ..cache import VolumeCache  # heavy, and --help does without it

    if not folder.is_dir():
        msg = f"there is no cache folder {folder}; name the one that was passed as --cache"
        raise CacheError(msg)
    with VolumeCache(folder, read_only=True) as opened:
        held = opened.stats()
    rows = [("kind", "entries", "bytes")]
    rows += [(kind, str(part.entries), str(part.bytes)) for kind, part in held.by_kind.items()]
    rows.append(("all", str(held.entries), str(held.bytes)))
    answer([f"{kind:<10}{entries:>10}{size:>16}" for kind, entries, size in rows])
    if not held.entries:
        hint(f"nothing is there yet: nvgen-aug generate tiny-brain --cache {folder} --out volumes/")
