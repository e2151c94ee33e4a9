"""Released checkpoints are imported whole, strictly, and without running anything in them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import final

import pytest
import torch
from safetensors.torch import load_file

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi import installation
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.installation import installed
from nvgen_aug.generators.maisi.manifest import MANIFEST_FILE
from nvgen_aug.generators.maisi.manifest import Manifest
from nvgen_aug.generators.maisi.manifest import file_digest
from nvgen_aug.generators.maisi.releases import MASK_NETWORKS
from nvgen_aug.generators.maisi.releases import Slot
from nvgen_aug.generators.maisi.sources import CheckpointSource
from nvgen_aug.generators.maisi.sources import Fetched
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from tests.generators.released import NARROW
from tests.generators.released import SCALE
from tests.generators.released import checkpoints
from tests.generators.released import path_of
from tests.generators.released import random_networks
from tests.generators.released import write_release

RFLOW, DDPM, MR = NARROW["rflow-ct"], NARROW["ddpm-ct"], NARROW["rflow-mr"]
NETWORKS = ["autoencoder", "flow", "control", "mask_autoencoder", "mask_flow"]


def test_every_network_becomes_a_file_with_its_digest(release: Path, tmp_path: Path) -> None:
    manifest = import_weights(RFLOW, FolderSource(release), tmp_path)
    assert [part.network for part in manifest.parts] == NETWORKS
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {MANIFEST_FILE, *(part.file for part in manifest.parts)}
    for part in manifest.parts:
        assert part.sha256 == file_digest(tmp_path / part.file)
        assert part.source_sha256 == file_digest(path_of(release, RFLOW, part.network))
    assert Manifest.read(tmp_path / MANIFEST_FILE) == manifest


def test_files_hold_the_tensors_of_the_networks_and_nothing_else(
    release: Path, tmp_path: Path
) -> None:
    manifest = import_weights(RFLOW, FolderSource(release), tmp_path)
    for name, network in random_networks(RFLOW).items():
        part = manifest.part(name)
        assert part is not None
        tensors = load_file(tmp_path / part.file)
        scale = tensors.pop("scale_factor", None)
        assert (scale is not None) == (name in ("flow", "mask_flow"))
        assert tensors.keys() == network.state_dict().keys()
        for key, value in network.state_dict().items():
            assert torch.equal(tensors[key], value)


def test_a_scale_factor_in_half_precision_is_kept_exactly(release: Path, tmp_path: Path) -> None:
    part = import_weights(RFLOW, FolderSource(release), tmp_path).part("flow")
    assert part is not None
    scale = load_file(tmp_path / part.file)["scale_factor"]
    assert scale.dtype == torch.float32
    assert scale.tolist() == [SCALE]


@pytest.mark.parametrize("network", ["autoencoder", "mask_autoencoder", "control"])
def test_bare_and_wrapped_state_dicts_give_the_same_file(
    copy: Path, tmp_path: Path, network: str
) -> None:
    path = path_of(copy, RFLOW, network)
    before = import_weights(RFLOW, FolderSource(copy), tmp_path / "one").part(network)
    held = torch.load(path)
    bare = held.get("controlnet_state_dict", held)
    torch.save({"unet_state_dict": bare} if bare is held else bare, path)
    after = import_weights(RFLOW, FolderSource(copy), tmp_path / "two").part(network)
    assert before is not None
    assert after is not None
    assert before.sha256 == after.sha256


def test_files_may_lie_right_in_the_folder(release: Path, tmp_path: Path) -> None:
    manifest = import_weights(RFLOW, FolderSource(release / "models"), tmp_path)
    assert len(manifest.parts) == 5


def test_networks_that_draw_masks_can_be_left_out(release: Path, tmp_path: Path) -> None:
    source = FolderSource(release)
    manifest = import_weights(RFLOW, source, tmp_path, without=MASK_NETWORKS)
    assert [part.network for part in manifest.parts] == NETWORKS[:3]
    MaisiGenerator(RFLOW, weights=tmp_path)


def test_what_a_conversion_left_in_ddpm_is_ignored_and_counted(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", DDPM)
    manifest = import_weights(DDPM, FolderSource(release), tmp_path / "home")
    ignored = {part.network: part.ignored for part in manifest.parts}
    assert ignored["flow"] > ignored["control"] > 0
    assert ignored["autoencoder"] == ignored["mask_flow"] == 0


def spoil(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    held = torch.load(path)
    state = next((held[k] for k in ("unet_state_dict", "controlnet_state_dict") if k in held), held)
    change(state)
    torch.save(held, path)


@pytest.mark.parametrize(
    ("network", "change", "text"),
    [
        ("autoencoder", lambda state: state.pop(next(iter(state))), r"1 missing: "),
        ("flow", lambda state: state.pop(next(iter(state))), r"1 missing: "),
        ("control", lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected: extra"),
        ("mask_flow", lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected: extra"),
        (
            "mask_autoencoder",
            lambda state: state.update({next(iter(state)): torch.zeros(1, 2, 3)}),
            r"1 of other shape: \S+ is \[1, 2, 3\], not \[",
        ),
        (
            "flow",
            lambda state: state.update({"a.attn.out_proj.weight": torch.eye(2)}),
            r"1 unexpected: a.attn.out_proj.weight",
        ),
        (
            "control",
            lambda state: state[next(iter(state))].fill_(float("nan")),
            "of the control must be finite numbers",
        ),
    ],
)
def test_any_other_tensor_is_refused_by_name(
    copy: Path,
    tmp_path: Path,
    network: str,
    change: Callable[[dict[str, Any]], object],
    text: str,
) -> None:
    spoil(path_of(copy, RFLOW, network), change)
    with pytest.raises(WeightsError, match=text) as caught:
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")
    assert network in str(caught.value)


def test_a_layer_that_ddpm_lacks_must_be_there_for_rflow(copy: Path, tmp_path: Path) -> None:
    def drop(state: dict[str, Any]) -> None:
        for key in [k for k in state if k.endswith("attn.out_proj.bias")]:
            del state[key]

    spoil(path_of(copy, RFLOW, "flow"), drop)
    with pytest.raises(WeightsError, match=r"missing: \S+attn\.out_proj\.bias"):
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")


@pytest.mark.parametrize("scale", [None, 0.0, float("nan"), torch.zeros(3)])
def test_a_scale_factor_that_is_no_positive_number_is_refused(
    copy: Path, tmp_path: Path, scale: object
) -> None:
    path = path_of(copy, RFLOW, "flow")
    torch.save(torch.load(path) | {"scale_factor": scale}, path)
    with pytest.raises(WeightsError, match="positive `scale_factor`, got"):
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")


@final
class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        *((network, "whole") for network in NETWORKS),
        ("flow", "beside"),
        ("control", "inside"),
        ("mask_flow", "old"),
    ],
)
def test_a_malicious_checkpoint_runs_nothing(
    copy: Path, tmp_path: Path, network: str, kind: str
) -> None:
    path, canary = path_of(copy, RFLOW, network), tmp_path / "canary"
    evil = Canary(canary)
    held = torch.load(path)
    content = {
        "whole": evil,
        "beside": {**held, "scheduler": evil},
        "inside": dict.fromkeys(held, evil),
        "old": evil,
    }[kind]
    torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    with pytest.raises(WeightsError, match="nothing in it was run"):
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")
    assert not canary.exists()
    assert not (tmp_path / "home" / MANIFEST_FILE).exists()


def test_the_canary_sings_where_pickles_are_run(tmp_path: Path) -> None:
    torch.save(Canary(tmp_path / "canary"), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_at_run_time_only_safetensors_are_read(release: Path, tmp_path: Path) -> None:
    manifest = import_weights(RFLOW, FolderSource(release), tmp_path)
    part = manifest.part("control")
    assert part is not None
    torch.save(Canary(tmp_path / "canary"), tmp_path / part.file)
    values = json.loads((tmp_path / MANIFEST_FILE).read_text())
    for entry in values["parts"]:
        entry["sha256"] = file_digest(tmp_path / entry["file"])
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"control-.*truncated or damaged"):
        MaisiGenerator(RFLOW, weights=tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"some text"])
def test_a_file_of_another_kind_is_refused_with_its_size(
    copy: Path, tmp_path: Path, content: bytes
) -> None:
    path_of(copy, RFLOW, "flow").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"diff_unet_3d_rflow-ct.pt \({len(content)} bytes\)"):
        import_weights(RFLOW, FolderSource(copy), tmp_path / "home")


@final
class Stopping(CheckpointSource):
    """A folder that is left with Ctrl-C before a network, and counts what was fetched."""

    def __init__(self, folder: Path, before: str | None = None) -> None:
        self.inner, self.before, self.fetched = FolderSource(folder), before, list[str]()

    def has(self, slot: Slot) -> bool:
        return self.inner.has(slot)

    def size(self, slot: Slot) -> int:
        return 0

    def origin(self, slot: Slot) -> str:
        return f"somewhere@{slot.path}"

    def fetch(self, slot: Slot) -> Fetched:
        if slot.network == self.before:
            raise KeyboardInterrupt
        self.fetched.append(slot.network)
        return Fetched(self.inner.fetch(slot).path, self.origin(slot))


def test_an_interrupted_import_is_not_installed_and_goes_on(release: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        import_weights(RFLOW, Stopping(release, "mask_autoencoder"), tmp_path)
    with pytest.raises(WeightsError, match="not installed"):
        MaisiGenerator(RFLOW, weights=tmp_path)
    again = Stopping(release)
    manifest = import_weights(RFLOW, again, tmp_path)
    assert again.fetched == ["mask_autoencoder", "mask_flow"]
    whole = import_weights(RFLOW, FolderSource(release), tmp_path / "whole")
    assert manifest.digest == whole.digest
    assert {p.name for p in tmp_path.glob(".*")} == set()


def test_what_was_damaged_meanwhile_is_made_again(release: Path, tmp_path: Path) -> None:
    manifest = import_weights(RFLOW, Stopping(release), tmp_path)
    part = manifest.part("flow")
    assert part is not None
    (tmp_path / part.file).write_bytes(b"half")
    again = Stopping(release)
    assert import_weights(RFLOW, again, tmp_path) == manifest
    assert again.fetched == ["flow"]


def test_other_weights_take_the_place_of_the_old_ones(release: Path, tmp_path: Path) -> None:
    old = import_weights(RFLOW, FolderSource(release), tmp_path / "home")
    before = MaisiGenerator(RFLOW, weights=tmp_path / "home").card
    other = write_release(tmp_path / "other", RFLOW, seed=50)
    new = import_weights(RFLOW, FolderSource(other), tmp_path / "home")
    after = MaisiGenerator(RFLOW, weights=tmp_path / "home").card
    assert old.digest != new.digest == after.weights_digest
    assert before.weights_digest != after.weights_digest
    assert len(list((tmp_path / "home").glob("*.safetensors"))) == 5


def test_a_file_that_is_not_that_of_the_manifest_is_refused_with_both_digests(
    release: Path, tmp_path: Path
) -> None:
    part = import_weights(RFLOW, FolderSource(release), tmp_path).part("autoencoder")
    assert part is not None
    content = bytearray((tmp_path / part.file).read_bytes())
    content[-1] ^= 1
    (tmp_path / part.file).write_bytes(content)
    found = file_digest(tmp_path / part.file)
    with pytest.raises(WeightsError, match=rf"digest {found}, but its manifest says {part.sha256}"):
        MaisiGenerator(RFLOW, weights=tmp_path)


def test_weights_of_another_variant_are_refused_by_both_names(
    release: Path, tmp_path: Path
) -> None:
    import_weights(RFLOW, FolderSource(release), tmp_path)
    with pytest.raises(WeightsError, match="those of `rflow-ct`, not of `rflow-mr`"):
        MaisiGenerator(MR, weights=tmp_path)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        installation.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000, total=0, used=0)
    )
    with pytest.raises(WeightsError, match=r"autoencoder needs 0\.\d\d GB in .*0\.00 GB are free"):
        import_weights(RFLOW, FolderSource(release), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_with_the_package_is_not_imported(release: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="come with this package"):
        import_weights(TINY_BRAIN, FolderSource(release), tmp_path)


def test_what_is_installed_is_found_by_its_manifest(release: Path, tmp_path: Path) -> None:
    manifest = import_weights(RFLOW, FolderSource(release), tmp_path / "rflow-ct")
    (tmp_path / "rflow-mr").mkdir()
    (tmp_path / "ddpm-ct").mkdir()
    (tmp_path / "ddpm-ct" / MANIFEST_FILE).write_text("no json")
    found = installed(tmp_path)
    assert found["rflow-ct"] == manifest
    assert isinstance(found["ddpm-ct"], WeightsError)
    assert "rflow-mr" not in found


def test_checkpoints_of_the_tests_are_as_released() -> None:
    held = checkpoints(DDPM, random_networks(DDPM))
    assert list(held) == NETWORKS
    assert {"unet_state_dict", "scale_factor", "optimizer_state_dict"} <= held["flow"].keys()
    assert held["flow"]["scale_factor"].dtype == torch.float16
    assert any(".attn.out_proj." in key for key in held["flow"]["unet_state_dict"])
