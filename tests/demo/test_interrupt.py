"""Ctrl-C in the middle of a demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvgen_aug.cache import VolumeCache


@pytest.mark.slow
def test_ctrl_c_ends_in_one_line_without_orphans_and_with_a_cache(tmp_path: Path) -> None:
    words = ["demo", "--quick", "--variant", "phantom", "--steps", "4000", "--out", str(tmp_path)]
    demo = subprocess.Popen(
        [sys.executable, "-m", "nvgen_aug.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with demo:
        assert demo.stderr is not None
        # The runs begin after this line.
        assert any(line.startswith("two runs of") for line in demo.stderr)
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        assert children  # the resident generator at least
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.stderr.read()
        assert demo.wait() == 130
    assert rest.strip().splitlines()[-1].startswith("stopped; the volumes made so far stay in")
    assert "Traceback" not in rest
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
    assert VolumeCache(tmp_path / "cache", read_only=True).stats().entries > 0
