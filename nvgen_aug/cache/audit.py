"""Audit: every file of an entry compared with what its commit file says, by SHA-256."""

from __future__ import annotations

import os
from pathlib import Path

from .entry import DAMAGE
from .entry import Damaged
from .entry import FileFact
from .entry import read_commit
from .entry import read_file
from .entry import walk
from .layout import COMMIT_FILE
from .layout import Kind


def faults_of(directory: Path, kind: Kind, key: str, *, fast: bool = False) -> list[str]:
    """What is wrong with an entry, a sentence for each file; empty if it is whole or gone.

    Nothing is opened as Zarr: other bytes than those that were written are damage,
    whether or not they can be decoded.

    Args:
        directory: Where it lies.
        kind: Its folder.
        key: Its key.
        fast: Compare names and sizes alone, without reading the files.
    """
    try:
        commit = read_commit(directory, kind, key)
    except FileNotFoundError:
        return ["`commit.json` is missing"] if os.path.lexists(directory) else []
    except Damaged as error:
        return [str(error)]
    expected = dict(commit.files)
    faults = []
    try:
        for is_folder, path in walk(directory):
            name = path.relative_to(directory).as_posix()
            if is_folder or name == COMMIT_FILE:
                continue
            fact = expected.pop(name, None)
            fault = "is not listed" if fact is None else _compare(path, fact, fast)
            if fault:
                faults.append(f"`{name}` {fault}")
    except DAMAGE as error:
        faults.append(str(error))
    faults += [f"`{name}` is missing" for name in expected if not os.path.lexists(directory / name)]
    # Evicted while we read: half of its files were gone, and none of them was damaged.
    return faults if os.path.lexists(directory) else []


def _compare(path: Path, fact: FileFact, fast: bool) -> str:
    """What is wrong with a file, or an empty text."""
    try:
        size = path.lstat().st_size
        if size != fact.size:
            return f"has {size} bytes instead of {fact.size}"
        if fast:
            return ""
        content = read_file(path)
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    same = fact.fits(content) and fact.is_digest_of(content)
    return "" if same else "has other bytes than those that were written"
