"""No archive is ever unpacked onto the disk, so that no name in one can lead anywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nvgen_aug

PACKAGE = Path(nvgen_aug.__file__).parent
UNPACKING = {"extract", "extractall", "unpack_archive"}


def unpacking(text: str) -> set[str]:
    """What a module calls, or imports, that writes members of an archive to the disk."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update({node.module or "", *(name.name for name in node.names)})
    return found & {*UNPACKING, "tarfile"}


@pytest.mark.parametrize(
    "text",
    ["archive.extractall(folder)", "import tarfile", "from shutil import unpack_archive"],
)
def test_a_module_that_unpacks_would_be_found(text: str) -> None:
    assert unpacking(text)


def test_no_module_unpacks_an_archive() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    assert [str(path) for path in files if unpacking(path.read_text(encoding="utf-8"))] == []
