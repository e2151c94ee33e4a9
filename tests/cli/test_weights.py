"""`nvgen-aug weights` imports, lists, and says what to do when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nvgen_aug.generators.maisi.variants import VARIANTS
from tests.cli.command import Run
from tests.cli.command import runner
from tests.generators.released import NARROW
from tests.generators.released import path_of
from tests.generators.released import write_release
from tests.generators.released import write_size_table


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("NVGEN_AUG_HOME", str(tmp_path / "home"))
    for name, variant in NARROW.items():
        monkeypatch.setitem(VARIANTS, name, variant)  # type: ignore[arg-type]

    return runner(capsys)


def test_imported_weights_are_listed_with_digest_and_licence_and_generate(
    run: Run, tmp_path: Path
) -> None:
    release = write_release(tmp_path / "release", NARROW["rflow-mr"])
    code, out, err = run("weights", "import", "rflow-mr", "--from", release)
    assert code == 0
    assert out.strip() == str(tmp_path / "home" / "weights" / "rflow-mr")
    assert "non-commercial" in err
    assert "2/2 flow: converting" in err
    digest = err.partition("digest ")[2].split()[0]

    code, out, _ = run("weights", "list")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert digest[:16] in rows["rflow-mr"]
    assert "non-commercial" in rows["rflow-mr"]
    assert "not installed" in rows["rflow-ct"]
    assert "with this package" in rows["tiny-brain"]

    code, out, err = run("generate", "rflow-mr", "--out", tmp_path / "volumes")
    assert code == 0
    assert "non-commercial" in err
    assert len(list((tmp_path / "volumes").glob("*.nii.gz"))) == 1  # an image, and no label


def test_a_mask_file_is_followed(run: Run, tmp_path: Path) -> None:
    import nibabel

    release = write_release(tmp_path / "release", NARROW["rflow-ct"])
    assert run("weights", "import", "rflow-ct", "--from", release, "--image-only")[0] == 0
    label = np.zeros((32, 32, 32), np.float32)
    label[8:24, 8:24, 8:24] = 200
    label[10:16, 10:16, 10:16] = 1
    affine = np.diag([-8.0, -8.0, 8.0, 1.0])  # LPS: it is turned upright
    nibabel.save(nibabel.Nifti1Image(label, affine), tmp_path / "mask.nii.gz")
    words = ("--mask", tmp_path / "mask.nii.gz", "--out", tmp_path / "volumes")
    code, out, err = run("generate", "rflow-ct", *words)
    assert code == 0, err
    made = nibabel.load(out.splitlines()[0].replace(".nii.gz", "_label.nii.gz"))
    np.testing.assert_array_equal(np.asarray(made.dataobj), label[::-1, ::-1])


def test_a_table_of_sizes_that_is_not_there_is_told_of(run: Run, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", NARROW["rflow-ct"])
    words = ("weights", "import", "rflow-ct", "--from", release)
    _, _, err = run(*words)
    assert "there was no `datasets/all_anatomy_size_conditions.json`" in err
    assert "5 networks" in err
    assert "there was no" not in run(*words, "--image-only")[2]
    write_size_table(release, np.full((3, 10), 0.5))
    _, _, err = run(*words)
    assert "there was no" not in err
    assert "6/6 size_table: converting" in err
    assert "5 networks" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("rflow-cz",), "no variant `rflow-cz`; did you mean `rflow-ct`"),
        (("tiny-brain",), "come with this package"),
        (("rflow-ct", "--from", "absent"), "no folder absent"),
        (("rflow-ct", "--revision", "main"), "must be REPOSITORY@COMMIT, got `main`"),
        (("rflow-ct", "--from", ".", "--revision", "a@b"), "give one of them"),
    ],
)
def test_what_cannot_be_imported_ends_in_one_sentence(
    run: Run, words: tuple[str, ...], text: str
) -> None:
    code, out, err = run("weights", "import", *words)
    assert code == 1
    assert out == ""
    assert text in err


def test_a_damaged_checkpoint_leaves_nothing_installed(run: Run, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", NARROW["rflow-mr"])
    path_of(release, NARROW["rflow-mr"], "flow").write_bytes(b"no checkpoint")
    code, _, err = run("weights", "import", "rflow-mr", "--from", release)
    assert code == 1
    assert "diff_unet_3d_rflow-mr.pt (13 bytes)" in err
    assert "not installed" in run("weights", "list")[1]


def test_weights_that_are_not_installed_say_how_to_install_them(run: Run, tmp_path: Path) -> None:
    code, _, err = run("generate", "ddpm-ct", "--out", tmp_path)
    assert code == 1
    assert "run `nvgen-aug weights import ddpm-ct`" in err
