"""What only a GPU can show: kernels, half precision and recorded launches give what torch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from nvgen_aug.generators.maisi.fused_norm import group_norm_silu
from nvgen_aug.generators.maisi.fused_norm import has_kernel
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.placement import check_convolution
from nvgen_aug.spec import VolumeSpec
from tests.generators.tiny import TINY
from tests.generators.tiny import write_files

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = torch.device("cuda:0")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_its_convolutions_in_half_precision_are_right(precision: str) -> None:
    assert check_convolution(GPU, precision) < 1e-2


@torch.inference_mode()
@pytest.mark.parametrize(("channels", "groups", "edge"), [(64, 32, 40), (1024, 32, 5), (48, 16, 9)])
def test_the_fused_norm_is_that_of_torch(channels: int, groups: int, edge: int) -> None:
    x = torch.randn(2, channels, edge, edge, edge, device=GPU, dtype=torch.float16)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(2, channels, device=GPU, dtype=torch.float16).unbind()
    assert has_kernel(x)
    found = group_norm_silu(x, groups, weight, bias, 1e-6)
    wanted = functional.silu(
        functional.group_norm(x.float(), groups, weight.float(), bias.float(), 1e-6)
    )
    torch.testing.assert_close(found.float(), wanted, rtol=1e-2, atol=1e-2)
    assert torch.equal(found, group_norm_silu(x, groups, weight, bias, 1e-6))


@pytest.mark.parametrize("backend", ["eager", "compiled"])
@pytest.mark.parametrize("solver", ["euler", "ab2"])
def test_a_latent_made_on_it_is_that_of_the_processor(
    backend: str, solver: str, tmp_path: Path
) -> None:
    folder = write_files(tmp_path)
    asked = VolumeSpec(TINY.name, seed=3, solver=solver, steps=4)
    wanted = MaisiGenerator(TINY, weights=folder).latent(asked).tensor.astype(np.float64)
    generator = MaisiGenerator(TINY, device="cuda:0", weights=folder, backend=backend)
    found = generator.latent(asked).tensor.astype(np.float64)
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 2e-2
