"""Full width: the shapes of NV-Generate's networks, random weights for them, and MONAI's twins."""

from __future__ import annotations

from typing import TypeVar

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from nvgen_aug.generators.maisi.shapes import AutoencoderShape
from nvgen_aug.generators.maisi.shapes import FlowShape

# configs/config_network_rflow.json of NV-Generate-CTMR.
AUTOENCODER = AutoencoderShape(widths=(64, 128, 256), groups=32)
FLOW = FlowShape(
    channels=(64, 128, 256, 512),
    attention=(False, False, True, True),
    head_channels=(0, 0, 32, 32),
    norm_groups=32,
    condition_channels=(8, 32, 64),
)
# The same layers, for where full width would take minutes on a processor.
NARROW_AUTOENCODER = AutoencoderShape(widths=(8, 16, 32), groups=8)
NARROW_FLOW = FlowShape(
    channels=(16, 32, 32, 32),
    attention=(False, False, True, True),
    head_channels=(0, 0, 16, 16),
    norm_groups=16,
    condition_channels=(8, 16, 16),
)

N = TypeVar("N", bound=nn.Module)


def monai_autoencoder(
    shape: AutoencoderShape, *, num_splits: int = 4, norm_float16: bool = False
) -> AutoencoderKlMaisi:
    """MONAI's own network, as NV-Generate's configuration builds it, with random weights.

    Args:
        shape: Widths and groups.
        num_splits: Into how many parts each convolution is cut.
        norm_float16: Whether norms give half precision, as NV-Generate has it on a GPU.
    """
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        latent_channels=shape.latent,
        num_channels=list(shape.widths),
        num_res_blocks=[2] * len(shape.widths),
        norm_num_groups=shape.groups,
        norm_eps=1e-6,
        attention_levels=[False] * len(shape.widths),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        use_checkpointing=False,
        use_convtranspose=False,
        norm_float16=norm_float16,
        num_splits=num_splits,
        dim_split=1,
    )


def redrawn(network: N, seed: int = 0) -> N:
    """The network with every weight drawn anew, small, and none of them zero.

    Layers that training begins at zero would give outputs that are constant, and on recent GPUs
    arithmetic on zeros takes less power and so runs faster than it does in use.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                bound = (3.0 / parameter[0].numel()) ** 0.5  # keeps the variance of what passes
                drawn = torch.rand(parameter.shape, generator=generator) * 2 - 1
                parameter.copy_(drawn * bound)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
            else:
                parameter.copy_(1 + torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)
