"""A checkout of NV-Generate-CTMR as a peer, here a small one that was made for the test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.decoders import Decoders
from benchmarks.nv_generate import VARIABLE
from benchmarks.nv_generate import NvGenerate
from benchmarks.nv_generate import Tiling
from nvgen_aug.generators.maisi.shapes import AutoencoderShape

TINY = AutoencoderShape(widths=(4, 4, 8), groups=4)
# The names that the benchmarks call, doing what they do there.
INFER = """
import torch

class ReconModel(torch.nn.Module):
    def __init__(self, autoencoder, scale_factor):
        super().__init__()
        self.autoencoder, self.scale_factor = autoencoder, scale_factor

    def forward(self, z):
        return self.autoencoder.decode_stage_2_outputs(z / self.scale_factor)
"""
UTILS = """
def dynamic_infer(inferer, model, images):
    whole = images[0, 0].numel() <= inferer.roi_size[0] ** 3
    return model(images) if whole else inferer(network=model, inputs=images)
"""
NETWORK = {
    "autoencoder_def": {
        "_target_": "monai.apps.generation.maisi.networks.autoencoderkl_maisi.AutoencoderKlMaisi",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 4,
        "num_channels": [64, 128, 256],
        "num_res_blocks": [2, 2, 2],
        "norm_num_groups": 32,
        "norm_eps": 1e-6,
        "attention_levels": [False, False, False],
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
        "use_checkpointing": False,
        "use_convtranspose": False,
        "norm_float16": True,
        "num_splits": 4,
        "dim_split": 1,
    }
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "scripts/__init__.py": "",
        "scripts/utils_infer.py": INFER,
        "scripts/utils.py": UTILS,
        "configs/config_network_rflow.json": json.dumps(NETWORK),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("scripts", "scripts.utils", "scripts.utils_infer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_without_the_variable_there_is_no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert NvGenerate.from_environment() is None


def test_a_folder_that_is_no_checkout_is_refused_by_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(SystemExit, match=r"has no scripts/utils_infer\.py; unset it, or clone"):
        NvGenerate.from_environment()


def test_a_package_that_a_checkout_needs_is_named(folder: Path) -> None:
    (folder / "scripts/utils.py").write_text("import no_such_package", encoding="utf-8")
    with pytest.raises(SystemExit, match="needs the package `no_such_package`"):
        NvGenerate(folder)


def test_a_checkout_decodes_with_its_own_code_and_our_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(folder))
    checkout = NvGenerate.from_environment()
    assert checkout is not None
    decoders = Decoders(TINY, (8, 8, 8))
    whole = decoders.of_checkout(checkout, Tiling((8, 8, 8), 0.4, 1))
    assert decoders.relative_rms(whole()) < 1e-5
    tiled = decoders.of_checkout(checkout, Tiling((6, 6, 6), 0.4, 1))
    assert decoders.relative_rms(tiled()) > 0.01


def test_ours_and_monais_decode_alike_from_the_same_drawn_weights() -> None:
    decoders = Decoders(TINY, (8, 8, 8))
    image = decoders.ours()()
    assert decoders.relative_rms(image) < 1e-4
    assert decoders.relative_rms(decoders.monai(2)()) < 1e-5
    assert torch.std(image) > 0.01
