"""Checkpoints come from a folder, or from the hub at one commit; what hinders is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi import sources
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.manifest import file_digest
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.sources import HubSource
from tests.generators.released import NARROW
from tests.generators.released import path_of

RFLOW, MR = NARROW["rflow-ct"], NARROW["rflow-mr"]


def test_a_missing_checkpoint_is_named_with_what_comes_near(copy: Path, tmp_path: Path) -> None:
    path = path_of(copy, RFLOW, "autoencoder")
    path.rename(path.with_name("autoencoder_v2.pt"))
    with pytest.raises(WeightsError, match=r"`models/autoencoder_v1.pt`.*`autoencoder_v2.pt`"):
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no folder .*absent"):
        FolderSource(tmp_path / "absent")


@pytest.fixture
def hub(release: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub with one commit, which writes down what is downloaded."""
    asked: list[str] = []

    def info(self: object, name: str, revision: str | None, files_metadata: bool) -> object:
        files = [
            SimpleNamespace(
                rfilename=f"models/{path.name}",
                size=path.stat().st_size,
                lfs=SimpleNamespace(sha256=file_digest(path)),
            )
            for path in sorted((release / "models").iterdir())
        ]
        return SimpleNamespace(sha=revision or "c0ffee", siblings=files)

    def download(name: str, path: str, *, revision: str, local_dir: Path) -> str:
        asked.append(f"{name}@{revision}/{path}")
        place = Path(local_dir) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(release / path, place))

    monkeypatch.setattr(sources.HfApi, "model_info", info)
    monkeypatch.setattr(sources, "hf_hub_download", download)
    return asked


def test_from_the_hub_all_files_are_of_one_commit_which_is_written_down(
    hub: list[str], tmp_path: Path
) -> None:
    assert RFLOW.release is not None
    source = HubSource(RFLOW.release, tmp_path / ".downloads")
    manifest = import_weights(RFLOW, source, tmp_path)
    assert manifest.revisions == {"nvidia/NV-Generate-CT": "c0ffee"}
    assert hub == [f"nvidia/NV-Generate-CT@c0ffee/{slot.path}" for slot in RFLOW.release.slots]
    assert not (tmp_path / ".downloads").exists()


def test_what_was_imported_from_a_commit_is_not_downloaded_again(
    hub: list[str], tmp_path: Path
) -> None:
    assert RFLOW.release is not None
    for revision, downloads in (("aaa", 5), ("aaa", 5), ("bbb", 10)):
        asked = {"nvidia/NV-Generate-CT": revision}
        import_weights(RFLOW, HubSource(RFLOW.release, tmp_path / ".d", asked), tmp_path)
        assert len(hub) == downloads


def test_a_download_that_is_not_what_was_published_is_refused(
    hub: list[str], release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RFLOW.release is not None

    def download(name: str, path: str, *, revision: str, local_dir: Path) -> str:
        place = tmp_path / "cut.pt"
        place.write_bytes((release / path).read_bytes()[:-10])
        return str(place)

    monkeypatch.setattr(sources, "hf_hub_download", download)
    with pytest.raises(WeightsError, match=r"cut\.pt has the digest .* its publisher says"):
        import_weights(RFLOW, HubSource(RFLOW.release, tmp_path / ".d"), tmp_path)


def test_a_gated_repository_says_which_licence_to_accept_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        request = httpx.Request("GET", "https://huggingface.co/api")
        raise GatedRepoError("gated", response=httpx.Response(403, request=request))

    monkeypatch.setattr(sources.HfApi, "model_info", refuse)
    assert MR.release is not None
    with pytest.raises(
        WeightsError,
        match=r"\(403\): accept the NVIDIA OneWay Non-Commercial License .* at "
        r"https://huggingface.co/nvidia/NV-Generate-MR, then log in",
    ):
        HubSource(MR.release, tmp_path)


def test_without_a_network_the_way_out_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(sources.HfApi, "model_info", fail)
    assert MR.release is not None
    with pytest.raises(WeightsError, match=r"cannot be reached .*no route.*--from"):
        HubSource(MR.release, tmp_path)


def test_a_revision_of_another_repository_is_refused(hub: list[str], tmp_path: Path) -> None:
    assert RFLOW.release is not None
    with pytest.raises(WeightsError, match=r"did you mean `nvidia/NV-Generate-CT`\?"):
        HubSource(RFLOW.release, tmp_path, {"nvidia/NV-Generate-C": "abc"})
