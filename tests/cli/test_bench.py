"""`nvgen-aug bench`: the benchmarks of a clone."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nvgen_aug.cli import app
from nvgen_aug.cli.suite import Suite
from nvgen_aug.cli.suite import questions_in
from nvgen_aug.errors import NvgenError

ROOT = Path(__file__).parent.parent.parent
QUICK = '''"""How long is nothing?

    python -m benchmarks.nothing [--quick] [--device DEVICE]
"""
import sys
open("ran", "a").write(" ".join(sys.argv[1:]) + "\\\\n")
'''


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose benchmarks are one that runs, one that fails, and a module of neither."""
    for name, text in {
        "pyproject.toml": "",
        "nvgen_aug/__init__.py": "",
        "benchmarks/__init__.py": '"""Benchmarks."""',
        "benchmarks/nothing.py": QUICK.replace("\\\\n", "\\n"),
        "benchmarks/wrong.py": '"""What goes wrong?"""\nraise SystemExit(3)',
        "benchmarks/shared.py": '"""Shared: no question."""',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    # The package names its command as the command's module is named.
    monkeypatch.setattr(import_module("nvgen_aug.cli.bench"), "PACKAGE", tmp_path / "nvgen_aug")
    return tmp_path


def test_the_list_has_every_benchmark_of_this_repository_with_its_question() -> None:
    result = CliRunner().invoke(app, ["bench", "--list"])
    assert result.exit_code == 0
    files = {path.stem: read(path) for path in (ROOT / "benchmarks").glob("*.py")}
    runnable = [name for name, text in files.items() if "[--quick]" in text]
    assert [line.split()[0] for line in result.stdout.splitlines()] == sorted(runnable)
    assert all(line.endswith("?") for line in result.stdout.splitlines())


def said(stderr: str) -> str:
    """An error's text without the frame around it and its line breaks."""
    return " ".join(stderr.replace("│", " ").split())


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_module_without_a_question_is_no_benchmark(clone: Path) -> None:
    assert questions_in(clone / "benchmarks") == {
        "nothing": "How long is nothing?",
        "wrong": "What goes wrong?",
    }


def test_a_benchmark_runs_with_what_it_was_told(clone: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "nothing", "--quick", "--device", "cuda"])
    assert result.exit_code == 0
    assert read(clone / "ran") == "--quick --device cuda\n"


def test_after_one_that_fails_the_others_run_and_it_is_named(clone: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "wrong", "nothing"])
    assert result.exit_code == 1
    assert "these benchmarks failed: wrong" in result.stderr
    assert read(clone / "ran") == "\n"


def test_quick_runs_side_by_side_say_their_own_in_one_piece(clone: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "wrong", "nothing", "--quick"])
    assert result.exit_code == 1
    assert "these benchmarks failed: wrong" in result.stderr
    assert read(clone / "ran") == "--quick\n"
    assert "wrong: What goes wrong?\n" in result.stdout
    assert "nothing: How long is nothing?\n" in result.stdout


def test_a_device_is_for_what_has_networks(clone: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "wrong", "--device", "cuda"])
    assert result.exit_code == 2
    assert "`wrong` has no networks; --device is for nothing" in said(result.stderr)


def test_with_a_device_and_no_name_only_what_has_networks_runs(clone: Path) -> None:
    assert CliRunner().invoke(app, ["bench", "--device", "cuda"]).exit_code == 0
    assert read(clone / "ran") == "--device cuda\n"


def test_an_unknown_name_brings_the_near_one(clone: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "nothin"])
    assert result.exit_code == 2
    assert "there is no benchmark `nothin`; did you mean `nothing`?" in said(result.stderr)


def test_a_package_without_its_repository_says_where_the_benchmarks_are(clone: Path) -> None:
    shutil.rmtree(clone / "benchmarks")
    with pytest.raises(NvgenError, match=r"the benchmarks are in the repository.*clone it"):
        Suite.find(clone / "nvgen_aug")
