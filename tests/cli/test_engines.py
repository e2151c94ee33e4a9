"""`nvgen-aug engines`: what is built is listed, and what cannot be is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvgen_aug.cli import main
from nvgen_aug.generators.maisi.engines.store import EngineStore
from tests.generators.engine_key import KEY


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["engines", *arguments])
    return int(left.value.code or 0)


def test_built_engines_are_listed_with_shape_gpu_and_kind_of_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    EngineStore(tmp_path).put(KEY, bytes(2**20), seconds=2.5, weights="random")
    assert run("list", "--folder", str(tmp_path)) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["variant", "part", "inputs", "precision", "gpu"]
    assert row.split() == [
        *("tiny-brain", "flow", "1x4x16x16x16", "+1", "fp16", "SM89", "1.0", "2.5", "random"),
        *("tensorrt-rtx", "1.7"),
    ]


def test_an_empty_folder_gives_no_rows_and_says_how_to_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--folder", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nvgen-aug engines build" in captured.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("tiny-brian", "--arch", "SM89"), "variant `tiny-brian` is unknown; did you mean"),
        (("tiny-brain", "--arch", "SM90"), "arch `SM90` is unknown; did you mean"),
        (("tiny-brain", "--arch", "SM89", "--part", "flwo"), "part `flwo` is unknown"),
        (("tiny-brain", "--arch", "SM89", "--size", "64"), "size must be three numbers"),
        (
            ("tiny-brain", "--arch", "SM89", "--size", "60x64x64"),
            "cannot make size 60x64x64; nearest is 64x64x64",
        ),
        (("rflow-ct", "--arch", "SM89"), "rflow-ct"),
    ],
)
def test_what_cannot_be_built_is_refused(
    arguments: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    assert run("build", *arguments, "--folder", str(tmp_path)) == 1
    assert text in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_engines_of_the_shipped_model_are_built_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    asked = ("build", "tiny-brain", "--arch", "SM89", "--part", "decoder")
    assert run(*asked, "--folder", str(tmp_path)) == 0
    first = capsys.readouterr()
    assert first.out.splitlines()[1].split()[:2] == ["tiny-brain", "decoder"]
    assert "1 built, 0 were there already" in first.err
    assert run(*asked, "--folder", str(tmp_path)) == 0
    assert "0 built, 1 were there already" in capsys.readouterr().err
