"""`nvgen-aug` as a whole: help, wrong arguments, and the small subcommands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nvgen_aug.cli import app
from nvgen_aug.cli import main
from nvgen_aug.cli.terminal import progress
from nvgen_aug.cli.terminal import say
from nvgen_aug.record import package_version

COMMANDS = ("demo", "generate", "plan", "serve", "train", "cache", "bench", "doctor")


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nvgen_aug.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_subcommand() -> None:
    done = shell("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    "command", ["demo", "generate", "plan", "serve", "train", "bench", "doctor"]
)
def test_the_help_of_a_subcommand_teaches_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"nvgen-aug {command}" in result.output


def test_output_that_is_piped_has_no_colours() -> None:
    assert "\x1b" not in shell("generate", "--num", "x").stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["generate", "phantom"], "--out"),
        (["generate", "phantom", "--out", "x", "--num", "0"], "--num"),
        (["generate", "phantom", "--out", "x", "--num", "many"], "--num"),
        (["generat"], "generate"),
    ],
)
def test_arguments_that_make_no_sense_exit_with_2(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == package_version() + "\n"


def test_doctor_reports_versions_cores_and_the_cache(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0
    for word in ("torch", "zarrs", "cores", "start method", "memfd", "can be written"):
        assert word in result.stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_fails_for_a_cache_that_cannot_be_written() -> None:
    result = CliRunner().invoke(app, ["doctor", "--cache", "/nowhere"])
    assert result.exit_code == 1
    assert "hint: choose a cache folder that can be written" in result.stderr


def test_cache_stats_counts_what_a_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(tmp_path / "cache")
    with pytest.raises(SystemExit):
        main(["generate", "phantom", "--num", "2", "--out", str(tmp_path / "o"), "--cache", cache])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["cache", "stats", cache])
    assert "volumes            2" in capsys.readouterr().out


def test_cache_stats_of_no_folder_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["cache", "stats", str(tmp_path / "none")])
    assert "there is no cache folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["tiny-brian"], "`tiny-brian` cannot be trained; did you mean `tiny-brain`?"),
        (["tiny-brain", "--stages", "flaw"], "there is no stage `flaw`; did you mean `flow`?"),
        (["tiny-brain", "--minutes", "flow=soon"], "such as flow=30, got 'flow=soon'"),
        (["tiny-brain", "--minutes", "30"], "there is no stage `30`"),
    ],
)
def test_train_refuses_what_it_cannot_do(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["train", *arguments, "--work-dir", str(tmp_path / "work")])
    assert text in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_word_that_demo_does_not_take_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["demo", "phantom"])
    assert "takes no argument `phantom`; a generator is named with --variant" in (
        capsys.readouterr().err
    )


def test_brackets_and_colons_of_a_path_are_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with progress() as bar:
        bar.add_task("reading scans in /data/[old]/x[/y]/:brain:", total=1)
        bar.refresh()
    say("scans are in /data/[old]/:brain:")
    err = capsys.readouterr().err
    assert "/data/[old]/x[/y]/:brain:" in err
    assert "scans are in /data/[old]/:brain:" in err


def test_serve_prints_its_address_answers_there_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nvgen_aug.cli", "serve", "phantom"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("unix:")
        with pytest.raises(SystemExit, match="0"):
            main(["generate", address, "--out", str(tmp_path)])
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=60)
        assert server.returncode == 0
        assert "stopped" in err
    assert (tmp_path / "phantom_seed0_0000.nii.gz").exists()
