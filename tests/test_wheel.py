"""The wheel, installed elsewhere, generates with what it brings along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEIGHTS_BYTES = 25 * 10**6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that nothing older is in it."""
    source = tmp_path_factory.mktemp("source")
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nvgen_aug", source / "nvgen_aug", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment with the wheel in it.

    What the wheel depends on is borrowed from this environment by a path file, which
    does not borrow this environment's own nvgen_aug: an editable install hooks in by
    a path file too, and those are read in an environment's own folder alone.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def _run(*command: object, cwd: Path | None = None) -> str:
    # A path to these sources would come before what is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_has_types_licence_and_weights_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert "nvgen_aug/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    weights = [size for name, size in files.items() if name.endswith(".safetensors")]
    assert weights
    assert max(weights) <= WEIGHTS_BYTES
    assert any("tiny_brain" in name and name.endswith(".md") for name in files)
    assert not [name for name in files if name.startswith(("tests/", "benchmarks/"))]


def test_the_installed_copy_is_the_one_from_the_wheel(fresh: Path, tmp_path: Path) -> None:
    where = _run(fresh / "python", "-c", "import nvgen_aug as n; print(n.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(fresh.parent)


@pytest.mark.parametrize("variant", ["phantom", "tiny-brain"])
def test_it_generates_from_outside_the_repository(
    fresh: Path, tmp_path: Path, variant: str
) -> None:
    _run(fresh / "nvgen-aug", "generate", variant, "--out", tmp_path / "out", cwd=tmp_path)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = f"{variant}_seed0_0000"
    endings = (".nii.gz", "_label.nii.gz", ".json")
    assert names == {"contact-sheet.png", *(stem + ending for ending in endings)}
