"""One command of the command line, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nvgen_aug.cli import main

Run = Callable[..., tuple[int, str, str]]


def ran(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Its exit status, what it printed, and what it said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return int(left.value.code or 0), told.out.strip(), told.err


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """`ran`, with what was said in one line."""

    def run(*words: object) -> tuple[int, str, str]:
        status, out, err = ran(capsys, *words)
        return status, out, " ".join(err.split())

    return run
