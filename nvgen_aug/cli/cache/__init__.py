"""`nvgen-aug cache`: a cache folder, looked into, filled, checked and kept small."""

from __future__ import annotations

import typer

from .export import export
from .gc import gc
from .stats import stats
from .unpin import unpin
from .verify import verify
from .warm import warm

__all__ = ["cache"]

cache = typer.Typer(
    no_args_is_help=True, help="Look into a cache folder, fill it, check it, keep it small."
)


@cache.callback()
def _root() -> None:
    """Look into a cache folder, fill it, check it, keep it small.

    \b
    Example:
      nvgen-aug cache warm cache/ --variant tiny-brain --num 128
      nvgen-aug cache stats cache/
    """


cache.command()(stats)
cache.command()(warm)
cache.command()(verify)
cache.command()(gc)
cache.command()(unpin)
cache.command()(export)
