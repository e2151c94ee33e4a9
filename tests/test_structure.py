"""docs/structure.md and the tree say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import nvgen_aug

PACKAGE = Path(nvgen_aug.__file__).parent
PAGE = PACKAGE.parent / "docs" / "structure.md"

if not PAGE.exists():
    pytest.skip("the page is in the repository, not in the wheel", allow_module_level=True)


def named() -> set[str]:
    """Modules in the list at the end of the page, by path; two blanks a level."""
    listing = PAGE.read_text(encoding="utf-8").split("<!-- tree -->")[1]
    folders: list[str] = []
    found = set()
    for line in listing.splitlines():
        name = line.split()[0] if line.split() else ""
        if not name.endswith((".py", "/")):
            continue
        level = (len(line) - len(line.lstrip())) // 2
        folders = folders[:level]
        if name.endswith("/"):
            folders.append(name)
        else:
            found.add("".join(folders) + name)
    return found


def present() -> set[str]:
    """Modules of the package, but the `__init__.py` that merely hand on names."""
    paths = PACKAGE.rglob("*.py")
    return {str(p.relative_to(PACKAGE.parent)) for p in paths if p.name != "__init__.py"}


def test_every_module_on_the_page_exists() -> None:
    assert sorted(named() - present()) == []


def test_every_module_is_on_the_page() -> None:
    assert sorted(present() - named()) == []
