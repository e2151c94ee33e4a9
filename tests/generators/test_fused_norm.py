"""Group norm and SiLU as one operation give what torch's two operators give."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock
from torch.nn import functional

from nvgen_aug.generators.maisi.fused_norm import FusedResnetBlock
from nvgen_aug.generators.maisi.fused_norm import fuse_norms
from nvgen_aug.generators.maisi.fused_norm import group_norm_silu
from tests.generators.tiny import randomized


@torch.inference_mode()
def test_where_there_is_no_kernel_torchs_operators_are_used() -> None:
    x = torch.randn(2, 6, 4, 5, 3).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(6), torch.randn(6)
    expected = functional.silu(functional.group_norm(x, 3, weight, bias, 1e-6))
    torch.testing.assert_close(group_norm_silu(x, 3, weight, bias, 1e-6), expected)


@torch.inference_mode()
@pytest.mark.parametrize("resampling", [{}, {"up": True}, {"down": True}])
def test_a_fused_block_is_monais_block(resampling: dict[str, bool]) -> None:
    block = randomized(
        DiffusionUNetResnetBlock(3, 8, 16, out_channels=12, norm_num_groups=4, **resampling), seed=1
    )
    x, embedding = torch.randn(2, 8, 4, 4, 4), torch.randn(2, 16)
    expected, keys = block(x, embedding), block.state_dict().keys()
    fuse_norms(block)
    assert type(block) is FusedResnetBlock
    assert block.state_dict().keys() == keys
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-5, atol=1e-5)


# A process of its own: the interpreter is chosen when the kernels are defined.
INTERPRETED = """
import torch
from torch.nn import functional
from nvgen_aug.generators.maisi import fused_norm

for shape, groups in ((2, 6, 5, 7, 3), 3), ((1, 32, 16, 20, 9), 8), ((1, 3, 2, 2, 2), 1):
    torch.manual_seed(0)
    x = 5 + 2 * torch.randn(shape)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
    fused_norm._ELEMENTS = 512  # several blocks, the last of them in part
    found = fused_norm._by_kernel(x, groups, weight, bias, 1e-6)
    wanted = functional.silu(functional.group_norm(x, groups, weight, bias, 1e-6))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    again = fused_norm._by_kernel(x, groups, weight, bias, 1e-6)
    assert torch.equal(found, again)
print("equal")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_interpreted_on_a_processor_give_what_torch_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr
