"""The README's script runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script() -> str:
    (text,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert isinstance(text, str)
    return text


def run(text: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_has_twelve_lines() -> None:
    assert len(script().splitlines()) == 12


def test_the_readme_names_every_dependency_with_a_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = project.split("\ndependencies = [")[1].split("\n]")[0]
    names = re.findall(r'^    "([A-Za-z0-9_-]+)', block, flags=re.MULTILINE)
    table = README.split("## What it needs")[1].split("| extra |")[0].split("\n| ")[1:]
    reasons = " ".join(line.split(" | ")[0] for line in table)
    assert len(names) == 16
    assert [name for name in names if name not in reasons] == []


def test_every_file_that_the_readme_points_to_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_the_script_runs_as_printed_and_a_second_time_from_its_cache(tmp_path: Path) -> None:
    first = run(script(), tmp_path)
    batches = [line for line in first.splitlines() if line.startswith("torch.Size")]
    synthetic = [flag for line in batches for flag in re.findall(r"\d", line.split("] ")[-1])]
    assert batches
    assert 0 < synthetic.count("1") < len(synthetic)
    again = run(script(), tmp_path)
    assert [line for line in again.splitlines() if line in batches] == batches
