"""A member of the family that is small enough for tests: random weights, 32 voxels to an edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import nn

from nvgen_aug.generators.maisi.checks import NO_CHECKS
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.generators.maisi.networks import build_image_control
from nvgen_aug.generators.maisi.shapes import AutoencoderShape
from nvgen_aug.generators.maisi.shapes import FlowShape
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.generators.maisi.variants import Variant
from nvgen_aug.generators.maisi.weights import IMAGE_CONTROL_FILE
from nvgen_aug.generators.maisi.weights import TEMPLATE_FILE
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.generators.maisi.weights import save_image_control
from nvgen_aug.generators.maisi.weights import save_weights
from nvgen_aug.generators.maisi.weights import weights_digest
from nvgen_aug.training.tiny_brain import write_template

TINY: Final = replace(
    TINY_BRAIN,
    name="tiny-test",
    revision="tiny-test-1",
    autoencoder=AutoencoderShape(widths=(4, 4, 8), groups=2),
    flow=FlowShape(
        channels=(8, 8, 16, 16),
        attention=(False, False, True, True),
        head_channels=(0, 0, 8, 8),
        norm_groups=4,
        condition_channels=(4, 4, 8),
        image_channels=8,
    ),
    size=(32, 32, 32),
    legal_sizes=((32,), (32,), (32,)),
    spacing=(6.0, 6.0, 6.0),
    spacing_range=(6.0, 6.0),
    solver="euler",
    steps=2,
    checks=NO_CHECKS,  # random weights keep no promise
)


def randomized(network: nn.Module, seed: int) -> nn.Module:
    """Every weight drawn: MONAI's networks begin with zeros where it matters.

    Values are those that half precision has, so that files hold them as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                drawn /= parameter[0].numel() ** 0.5
                # Spacings come as mm x 100, and would drown all other inputs.
                drawn *= 0.01 if name == "spacing_layer.0.weight" else 1.0
                # A mask is mostly zeros, and would hardly be heard.
                drawn *= 2.0 if name.startswith("controlnet_cond_embedding") else 1.0
            else:
                drawn = 0.1 * drawn + (1.0 if name.endswith("weight") else 0.0)
            parameter.copy_(drawn.half().float())
    return network.eval()


def tiny_networks(variant: Variant = TINY, seed: int = 0) -> dict[str, nn.Module]:
    """Networks of a variant with random weights, by the names under which files keep them."""
    latent = variant.autoencoder.latent
    return {
        "autoencoder": randomized(build_autoencoder(variant.autoencoder), seed),
        "flow": randomized(build_flow(variant.flow, latent), seed + 1),
        "control": randomized(build_control(variant.flow, latent), seed + 2),
    }


def write_files(
    folder: Path, networks: Mapping[str, nn.Module] | None = None, scale_factor: float = 1.0
) -> Path:
    """Both files of a variant, in `folder`, which is handed back."""
    states = {name: n.state_dict() for name, n in (networks or tiny_networks()).items()}
    save_weights(folder / WEIGHTS_FILE, states, scale_factor)
    write_template(folder / TEMPLATE_FILE)
    return folder


def write_image_control(folder: Path, variant: Variant = TINY, seed: int = 9) -> Path:
    """The image ControlNet of the weights in `folder`, beside them."""
    network = randomized(build_image_control(variant.flow, variant.autoencoder.latent), seed)
    digest = weights_digest([folder / WEIGHTS_FILE, folder / TEMPLATE_FILE])
    save_image_control(folder / IMAGE_CONTROL_FILE, network.state_dict(), digest)
    return folder
