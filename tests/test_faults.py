"""docs/faults.md names tests that exist, and counts what it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"

if not PAGE.exists():
    pytest.skip("the page is in the repository, not in the wheel", allow_module_level=True)

UNTESTED = ("not yet tested", "no test:")


def rows() -> list[list[str]]:
    """Number, fault, what happens and tests of every row."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\| \d+ \|", line)
    ]


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 60
    lost = [name for file, name in named if name not in functions_in(TESTS / file)]
    assert lost == []


def test_every_fault_has_a_row_and_every_row_a_test_or_a_reason() -> None:
    assert [int(number) for number, *_ in rows()] == list(range(1, 65))
    for number, _, answer, tests in rows():
        assert tests or answer.startswith(UNTESTED), f"row {number} has neither test nor reason"


def test_the_count_on_the_page_is_that_of_its_rows() -> None:
    tested = sum(bool(tests) and not answer.startswith(UNTESTED) for *_, answer, tests in rows())
    assert f"Of 64 faults {tested} have a test" in PAGE.read_text(encoding="utf-8")
