"""One command of the command line, run in this process."""

from __future__ import annotations

import pytest

from nvgen_aug.cli import main


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Its exit status, what it printed, and what it said."""
    capsys.readouterr()
    status = 0
    try:
        main(list(words))
    except SystemExit as left:
        status = int(left.code or 0)
    told = capsys.readouterr()
    return status, told.out.strip(), told.err
