"""`nvgen-aug cache`, end to end with the phantom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from nvgen_aug.assembly import open_source
from nvgen_aug.cache import VolumeCache
from nvgen_aug.cli import app
from nvgen_aug.cli import main
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.errors import GenerationError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.recipe import Recipe
from nvgen_aug.spec import VolumeSpec

RECIPE = """
modality = ["bright", "dark"]
size = [16, 16, 16]

[pathology.lesion]
count = [0, 2]
diameter = [4, 8]
"""


def run(*arguments: object) -> int:
    """The command's exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["cache", *(str(argument) for argument in arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def warm(folder: Path, *arguments: object, num: int = 3) -> int:
    return run("warm", folder, "--variant", "phantom", "--num", num, *arguments)


def rows(text: str) -> dict[str, tuple[int, int]]:
    """Entries and bytes by the first word of each line."""
    split = [line.split() for line in text.splitlines()[1:]]
    return {kind: (int(entries), int(size)) for kind, entries, size in split}


def damage(folder: Path) -> str:
    """Flip a bit of one volume; gives its key."""
    chunk = next(path for path in folder.glob("volumes/*/*/image/c/**/0") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    return chunk.relative_to(folder).parts[2]


@pytest.fixture
def warmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A cache of three phantoms."""
    folder = tmp_path / "cache"
    assert warm(folder) == 0
    capsys.readouterr()
    return folder


@pytest.mark.parametrize("command", ["stats", "warm", "verify", "gc", "export"])
def test_the_help_of_each_subcommand_teaches_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["cache", command, "--help"])
    assert result.exit_code == 0
    assert f"nvgen-aug cache {command}" in result.output.split("Example:")[1]


@pytest.mark.parametrize("command", ["stats", "verify", "gc"])
def test_a_folder_that_is_not_there_is_the_users_error(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, tmp_path / "none") == 1
    assert "there is no cache folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_after_warming_generates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    assert warm(tmp_path / "cache", "--recipe", path, "--seed", 7, num=4) == 0
    with open_source("phantom", cache=tmp_path / "cache") as source:
        dataset = SyntheticDataset(source, Recipe.load(path), seed=7)
        for number in range(4):
            dataset[number]
        assert (source.stats().hits, source.stats().generated) == (4, 0)
        dataset[4]
        assert source.stats().generated == 1


def test_warming_again_makes_only_what_is_missing(
    warmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in warmed.glob("*/*/*/zarr.json")}
    assert warm(warmed, num=5) == 0
    assert "2 made, 0 decoded from latents, 3 were there" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert VolumeCache(warmed, read_only=True).stats().by_kind["volumes"].entries == 5


def test_warming_that_is_stopped_goes_on_with_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = PhantomGenerator.generate
    calls = []

    def interrupted(self: PhantomGenerator, *rest: object) -> object:
        calls.append(rest)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return generate(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PhantomGenerator, "generate", interrupted)
    assert warm(tmp_path / "cache", num=5) == 130
    assert "the same command makes the rest" in capsys.readouterr().err
    assert warm(tmp_path / "cache", num=5) == 0
    assert len(calls) == 5
    assert VolumeCache(tmp_path / "cache", read_only=True).stats().entries == 10


def test_a_volume_that_cannot_be_made_does_not_keep_the_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = PhantomGenerator.generate
    calls = []

    def fallible(self: PhantomGenerator, *rest: object) -> object:
        calls.append(rest)
        if len(calls) == 2:
            raise GenerationError("it is all black")
        return generate(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PhantomGenerator, "generate", fallible)
    assert warm(tmp_path / "cache") == 0
    err = capsys.readouterr().err
    assert "2 made" in err
    assert "1 failed, where training uses a neighbour; first: it is all black" in err
    assert "hint" not in err


def test_a_model_that_makes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> object:
        raise GenerationError("it is all black")

    monkeypatch.setattr(PhantomGenerator, "generate", broken)
    assert warm(tmp_path / "cache") == 1
    assert "error: it is all black" in capsys.readouterr().err


def test_a_lost_volume_is_decoded_from_its_latent(
    warmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(warmed)
    assert run("verify", warmed) == 1
    capsys.readouterr()
    assert warm(warmed) == 0
    assert "0 made, 1 decoded from latents, 2 were there" in capsys.readouterr().err


def entry_bytes(folder: Path) -> tuple[int, int]:
    """Mean bytes of a volume and of a latent."""
    kinds = VolumeCache(folder, read_only=True).stats().by_kind
    return tuple(kinds[kind].bytes // kinds[kind].entries for kind in ("volumes", "latents"))


def test_a_small_cache_keeps_latents_and_is_not_churned_again(
    warmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, latent = entry_bytes(warmed)
    small = tmp_path / "small"
    bound = 6 * latent + 2 * volume
    assert warm(small, "--max-bytes", bound, num=5) == 0
    assert "are kept as latents alone" in capsys.readouterr().err
    stats = VolumeCache(small, read_only=True).stats()
    assert stats.by_kind["latents"].entries == 5
    assert 0 < stats.by_kind["volumes"].entries < 5
    assert warm(small, "--max-bytes", bound, num=5) == 0
    assert "0 made, 0 decoded from latents, 5 were there" in capsys.readouterr().err


@pytest.mark.parametrize("latents", [0, 3])
def test_a_cache_too_small_for_latents_says_so_instead_of_evicting_them(
    warmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], latents: int
) -> None:
    _, latent = entry_bytes(warmed)
    small = tmp_path / "small"
    assert warm(small, "--max-bytes", latent * latents + latent // 2, num=9) == 1
    err = capsys.readouterr().err
    assert f"cache {small} is full with volume" in err
    assert "raise --max-bytes" in err
    assert VolumeCache(small, read_only=True).stats().by_kind["latents"].entries == latents


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--num", "1"], "no model was named; add --variant"),
        (["--num", "1", "--variant", "phantum"], "did you mean `phantom`?"),
        (["--num", "1", "--variant", "unix:/run/x.sock"], "name its variant"),
        (["--num", "1", "--variant", "phantom", "--max-bytes", "much"], "max_bytes must be"),
        (["--num", "1", "--variant", "phantom", "--recipe", "none.toml"], "cannot read the recipe"),
    ],
)
def test_what_cannot_be_warmed_is_one_sentence_and_exit_1(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("warm", "cache", *arguments) == 1
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_a_recipe_that_the_model_cannot_make_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('modality = "drak"\n')
    assert warm(tmp_path / "cache", "--recipe", path) == 1
    assert not (tmp_path / "cache").exists()


def test_verify_of_a_whole_cache_says_so(warmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", warmed) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "6 entries" in err
    assert "0 are damaged" in err


def test_verify_lists_what_is_damaged_sets_it_aside_and_fails(
    warmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = damage(warmed)
    assert run("verify", warmed, "--fast") == 0
    assert run("verify", warmed, "--read-only") == 1
    assert "without --read-only sets them aside" in capsys.readouterr().err
    assert run("verify", warmed) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"volumes  {key}  `image/c/0/0/0/0` has other bytes")
    assert "1 were moved into" in err
    assert run("verify", warmed) == 0


def test_stats_tells_what_is_damaged_and_what_was_set_aside(
    warmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(warmed.glob("volumes/*/*/commit.json")).unlink()
    assert run("stats", warmed) == 0
    out, err = capsys.readouterr()
    assert [rows(out)[kind][0] for kind in ("volumes", "all", "damaged")] == [3, 6, 1]
    assert "nvgen-aug cache verify" in err
    run("verify", warmed)
    capsys.readouterr()
    assert run("stats", warmed) == 0
    out, err = capsys.readouterr()
    assert [rows(out)[kind][0] for kind in ("damaged", "quarantined", "partial")] == [0, 1, 0]
    assert rows(out)["quarantined"][1] > 0
    assert "nvgen-aug cache gc" in err


def test_gc_tells_what_it_removed_and_a_dry_run_removes_nothing(
    warmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(warmed)
    run("verify", warmed)
    capsys.readouterr()
    bound = VolumeCache(warmed, read_only=True).stats().bytes - 1
    told = []
    for extra, verb in ((["--dry-run"], "would be removed"), ([], "were removed")):
        assert run("gc", warmed, "--max-bytes", bound, *extra) == 0
        out, err = capsys.readouterr()
        assert verb in err
        told.append(rows(out))
    assert told[0] == told[1]
    assert [told[0][kind][0] for kind in ("quarantined", "volumes", "latents")] == [1, 1, 0]
    stats = VolumeCache(warmed, read_only=True).stats()
    assert (stats.entries, stats.quarantined.entries) == (4, 0)


def test_gc_without_a_bound_keeps_every_entry(warmed: Path) -> None:
    assert run("gc", warmed) == 0
    assert VolumeCache(warmed, read_only=True).stats().entries == 6


def test_export_writes_every_volume_with_label_and_sidecar(
    warmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("export", warmed, out) == 0
    images = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(images) == 3
    assert len(list(out.iterdir())) == 9
    for image in images:
        record = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
        volume = PhantomGenerator().generate(VolumeSpec(**record["spec"])).volume
        assert record["provenance"]["uid"].startswith(image.name[len("phantom_") :][:16])
        assert record["vocabulary"]["lesion"] == 3
        label = nibabel.load(image.with_name(image.name.replace(".nii.gz", "_label.nii.gz")))
        np.testing.assert_array_equal(np.asarray(nibabel.load(image).dataobj), volume.image[0])
        np.testing.assert_array_equal(np.asarray(label.dataobj), volume.label[0])


def test_export_goes_on_with_what_is_missing(
    warmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("export", warmed, out)
    next(out.glob("*_label.nii.gz")).unlink()
    capsys.readouterr()
    assert run("export", warmed, out) == 0
    assert "1 written, 2 were there" in capsys.readouterr().err
    assert len(list(out.iterdir())) == 9


def test_export_leaves_out_what_is_damaged_and_fails(
    warmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(warmed)
    assert run("export", warmed, tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "nvgen-aug cache verify" in err


def test_export_of_unknown_weights_leaves_label_names_out(
    tmp_path: Path, make_foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", make_foreign, tmp_path / "out") == 0
    (sidecar,) = (tmp_path / "out").glob("*.json")
    assert sidecar.name.startswith("___evil_")
    assert json.loads(sidecar.read_text())["vocabulary"] == {}
    assert "say nothing of its labels" in capsys.readouterr().err


@pytest.fixture
def make_foreign(tmp_path: Path) -> Path:
    """A cache whose one volume names a variant that would lead out of a folder."""
    generator = PhantomGenerator()
    spec = generator.card.resolve(VolumeSpec("phantom", seed=1, size=(8, 8, 8)))
    volume = generator.generate(spec).volume
    cache = VolumeCache(tmp_path / "foreign", max_bytes="1 MB")
    volume = volume.__class__(
        volume.image,
        volume.label,
        volume.affine,
        volume.provenance.with_(variant="../evil"),
    )
    cache.put_volume(generator.card.volume_key(spec), volume)
    return cache.path


def test_none_of_the_helps_loads_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from nvgen_aug.cli import app\n"
        "for name in ('stats', 'warm', 'verify', 'gc', 'export'):\n"
        "    assert CliRunner().invoke(app, ['cache', name, '--help']).exit_code == 0\n"
        "assert 'torch' not in sys.modules and 'zarr' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
