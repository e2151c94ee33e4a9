"""Pins: entries that somebody has said are needed, which stay until that is taken back."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import CacheError
from ..whole_file import replacing
from .entry import read_file
from .layout import KINDS
from .layout import Kind
from .layout import Layout
from .layout import check_key
from .layout import explained

Pinned = tuple[Kind, str]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_log = logging.getLogger(__name__)


def pin(layout: Layout, name: str, entries: Iterable[Pinned]) -> None:
    """Pin entries under a name, in addition to those that it pins already.

    They need not be there yet. The caller holds the lock.

    Raises:
        CacheError: for a name that is none, a key that is none, or a folder that cannot
            be written.
    """
    path = _path(layout, name)
    with explained(layout.root):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        all_of_them = _read(path) | {(kind, check_key(key)) for kind, key in entries}
        with replacing(path) as partial:
            partial.write_text(json.dumps(sorted(all_of_them), indent=0) + "\n", encoding="utf-8")


def unpin(layout: Layout, name: str) -> bool:
    """Take back a name and its pins; false if it has none. The caller holds the lock.

    Raises:
        CacheError: for a name that is none, or a folder that cannot be written.
    """
    path = _path(layout, name)
    with explained(layout.root):
        is_there = path.exists()
        path.unlink(missing_ok=True)
    return is_there


def names(layout: Layout) -> list[str]:
    """Every name that pins something."""
    return sorted(path.stem for path in layout.pins.glob("*.json"))


def pinned(layout: Layout) -> frozenset[Pinned]:
    """Every entry that any name pins, there or not."""
    return frozenset().union(*(_read(path) for path in layout.pins.glob("*.json")))


def _path(layout: Layout, name: str) -> Path:
    if not _NAME.fullmatch(name):
        msg = f"a pin's name must be letters, digits, dots, dashes and underscores, got {name!r}"
        raise CacheError(msg)
    return layout.pins / f"{name}.json"


def _read(path: Path) -> set[Pinned]:
    try:
        values = json.loads(read_file(path))
        return {(kind, check_key(key)) for kind, key in values if kind in KINDS}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError, CacheError) as error:
        _log.warning("%s cannot be read, so it pins nothing: %s", path, error)
        return set()
