"""The check that nothing is left behind finds what is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leftovers
from tests.leftovers import MARK
from tests.leftovers import Leftovers


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leftovers:
    for name in (MARK, "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards
    monkeypatch.setattr(leftovers, "SECONDS", 0.0)
    return Leftovers(tmp_path)


def test_a_process_that_lost_its_parent_is_found(watch: Leftovers) -> None:
    script = (
        "import subprocess, sys\n"
        "code = 'import sys; sys.stdin.read()'\n"
        "null = subprocess.DEVNULL\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdout=null, stderr=null)\n"
        "print(child.pid)\n"
        "child.returncode = 0\n"  # nobody waits for it
    )
    hold, ours = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", script], stdin=hold, stdout=subprocess.PIPE)
        pid = int(done.stdout)
        assert [line for line in watch.found() if line.startswith(f"process {pid}:")]
    finally:
        os.close(ours)
        os.close(hold)


def test_an_open_socket_and_a_directory_are_found(watch: Leftovers) -> None:
    before = set(watch.found())
    (watch.directory / "nvgen-0-left").mkdir()
    with socket.socket(socket.AF_UNIX):
        assert len(set(watch.found()) - before) == 2
