"""Folder: the cache folder that every subcommand of `nvgen-aug cache` names first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import CacheError

Folder = Annotated[Path, typer.Argument(help="The cache folder.")]


def existing(folder: Path) -> Path:
    """The folder, if it is one.

    Raises:
        CacheError: if it is not there.
    """
    if not folder.is_dir():
        msg = f"there is no cache folder {folder}; name the one that was passed as --cache"
        raise CacheError(msg)
    return folder
