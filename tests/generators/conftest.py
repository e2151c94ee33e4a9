"""A release on disk, for every test of what reads one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.generators.released import NARROW
from tests.generators.released import write_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of `rflow-ct`, narrow."""
    return write_release(tmp_path_factory.mktemp("release"), NARROW["rflow-ct"])


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    """A release to spoil."""
    return shutil.copytree(release, tmp_path / "release")
