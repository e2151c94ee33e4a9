"""Weights are read whole and strictly, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi.weights import SCALE_FACTOR
from nvgen_aug.generators.maisi.weights import load_network
from nvgen_aug.generators.maisi.weights import read_tensors
from nvgen_aug.generators.maisi.weights import save_weights
from nvgen_aug.generators.maisi.weights import weights_digest


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"flow": network().state_dict(), "control": network().state_dict()}, 1.25)
    return path


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    path, saved, loaded = tmp_path / "w.safetensors", network(), network()
    save_weights(path, {"flow": saved.state_dict()}, 0.9696)
    tensors = read_tensors(path)
    load_network(loaded, tensors, "flow", path)
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, saved.state_dict()[key].half().float())
    assert float(tensors[SCALE_FACTOR]) == pytest.approx(0.9696)


def test_each_network_gets_the_tensors_under_its_own_name(tmp_path: Path) -> None:
    path, networks = tmp_path / "w.safetensors", {"flow": network(), "control": network()}
    save_weights(path, {name: n.state_dict() for name, n in networks.items()}, 1.0)
    for name, saved in networks.items():
        loaded = network()
        load_network(loaded, read_tensors(path), name, path)
        assert torch.equal(loaded[0].weight, saved[0].weight.half().float())


def test_tensors_are_stored_in_half_precision_and_the_scale_factor_is_not(file: Path) -> None:
    stored = load_file(file)
    assert stored.pop(SCALE_FACTOR).dtype == torch.float32
    assert {v.dtype for v in stored.values()} == {torch.float16}


def test_only_the_finished_file_is_left_behind(file: Path) -> None:
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*absent\.safetensors"):
        read_tensors(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_named_with_its_size(file: Path, kept: int) -> None:
    content = file.read_bytes()[:kept]
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{file.name} \({len(content)} bytes\).*truncated"):
        read_tensors(file)


def test_a_file_of_another_kind_is_named(file: Path) -> None:
    torch.save({"flow.0.weight": torch.zeros(2, 3)}, file)
    with pytest.raises(WeightsError, match=file.name):
        read_tensors(file)


def test_a_tensor_of_other_shape_is_named_with_both_shapes(file: Path) -> None:
    tensors = read_tensors(file) | {"flow.0.weight": torch.zeros(2, 4)}
    with pytest.raises(WeightsError, match=r"`flow`.*0\.weight is \[2, 4\], not \[2, 3\]"):
        load_network(network(), tensors, "flow", file)


def test_a_missing_tensor_is_named(file: Path) -> None:
    tensors = read_tensors(file)
    del tensors["flow.1.bias"]
    with pytest.raises(WeightsError, match=r"`flow`.*1 missing: 1\.bias"):
        load_network(network(), tensors, "flow", file)


def test_an_unexpected_tensor_is_named(file: Path) -> None:
    tensors = read_tensors(file) | {"flow.2.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"`flow`.*1 unexpected: 2\.weight"):
        load_network(network(), tensors, "flow", file)


def test_of_many_missing_tensors_the_number_and_a_few_are_named(file: Path) -> None:
    tensors = {k: v for k, v in read_tensors(file).items() if not k.startswith("flow.")}
    with pytest.raises(WeightsError, match=r"4 missing: 0\.bias, 0\.weight, 1\.bias, …"):
        load_network(network(), tensors, "flow", file)


def test_a_network_that_does_not_fit_keeps_its_weights(file: Path) -> None:
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    tensors = read_tensors(file) | {"flow.1.bias": torch.zeros(9)}
    with pytest.raises(WeightsError, match="of other shape"):
        load_network(target, tensors, "flow", file)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_one_changed_byte_changes_the_digest(file: Path) -> None:
    before = weights_digest([file])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = weights_digest([file])
    assert after != before
    assert len(after) == 64


def test_the_digest_is_over_all_files(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "template"
    other.write_bytes(b"one")
    before = weights_digest([file, other])
    other.write_bytes(b"two")
    assert weights_digest([file, other]) != before
