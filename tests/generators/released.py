"""Checkpoints in the layout of the release, of networks that are narrow enough for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Final

import torch
from torch import nn

from nvgen_aug.generators.maisi.checks import NO_CHECKS
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.networks import build_networks
from nvgen_aug.generators.maisi.shapes import AutoencoderShape
from nvgen_aug.generators.maisi.shapes import FlowShape
from nvgen_aug.generators.maisi.shapes import MaskModelShape
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.variants import VARIANTS
from nvgen_aug.generators.maisi.variants import Variant
from tests.generators.tiny import randomized

SCALE: Final = 0.96240234375  # that of `rflow-mr`, which half precision holds
SIZE_TABLE_PATH: Final = "datasets/all_anatomy_size_conditions.json"


def _narrow(variant: Variant) -> Variant:
    wide = variant.flow
    flow = FlowShape(
        channels=(8, 8, 16, 16),
        attention=wide.attention,
        head_channels=(0, 0, 8, 8),
        norm_groups=4,
        condition_channels=(4, 4, 8),
        class_embeds=wide.class_embeds,
        residual_resampling=wide.residual_resampling,
        attention_projection=wide.attention_projection,
        body_region=wide.body_region,
    )
    mask_model = variant.mask_model and MaskModelShape(
        widths=(4, 4, 8),
        blocks=variant.mask_model.blocks,
        groups=2,
        channels=flow.channels,
        attention=flow.attention,
        head_channels=flow.head_channels,
        norm_groups=4,
        latent=(4, 8, 8, 8),
        spacing=8.0,
    )
    return replace(
        variant,
        autoencoder=AutoencoderShape(widths=(4, 4, 8), groups=2),
        flow=flow,
        mask_model=mask_model,
        size=(32, 32, 32),
        spacing=(8.0, 8.0, 8.0),
        steps=2,
        mask_steps=2,
        envelope=None,
        checks=NO_CHECKS,  # random weights keep no promise
    )


NARROW: Final[Mapping[str, Variant]] = {
    name: _narrow(variant) for name, variant in VARIANTS.items() if variant.release is not None
}


def random_networks(variant: Variant, seed: int = 0) -> dict[str, nn.Module]:
    """All networks of a variant, every weight drawn."""
    return {
        name: randomized(network.to_empty(device="cpu"), seed + k)
        for k, (name, network) in enumerate(build_networks(variant).items())
    }


def checkpoints(
    variant: Variant, networks: Mapping[str, nn.Module], *, has_optimizer: bool = True
) -> dict[str, Any]:
    """What each released file would hold."""
    states = {name: network.state_dict() for name, network in networks.items()}
    if not variant.flow.attention_projection:
        for name in ("flow", "control"):
            # Left in the released files by a conversion; the networks have no such layer.
            for key in [k for k in states[name] if k.endswith("attn.to_q.weight")]:
                width = states[name][key].shape[0]
                states[name][key.replace("to_q", "out_proj")] = torch.eye(width)
                states[name][key.replace("to_q.weight", "out_proj.bias")] = torch.zeros(width)
    trained = {"epoch": 28_851, "loss": 1.198}
    held: dict[str, Any] = {
        "autoencoder": states["autoencoder"],
        "flow": {
            "unet_state_dict": states["flow"],
            "scale_factor": torch.tensor(SCALE, dtype=torch.float16),
            "num_train_timesteps": 1000,
            "optimizer_state_dict": _optimizer(networks["flow"]) if has_optimizer else {},
            **trained,
        },
        "control": {"controlnet_state_dict": states.get("control"), **trained},
        "mask_autoencoder": states.get("mask_autoencoder"),
        "mask_flow": {
            "unet_state_dict": states.get("mask_flow"),
            "scale_factor": torch.tensor(1.0055984258651733),
        },
    }
    return {name: held[name] for name in networks}


def _optimizer(network: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def path_of(folder: Path, variant: Variant, network: str) -> Path:
    """Where the checkpoint of a network lies."""
    assert variant.release is not None
    (slot,) = (slot for slot in variant.release.slots if slot.network == network)
    return folder / slot.path


def write_release(
    folder: Path,
    variant: Variant,
    *,
    seed: int = 0,
    has_optimizer: bool = True,
) -> Path:
    """All checkpoints of a variant below `folder`, which is handed back.

    Args:
        folder: Where to.
        variant: Whose networks.
        seed: Of their weights.
        has_optimizer: Whether the optimizer's state is in it, twice as large as the network.
    """
    held = checkpoints(variant, random_networks(variant, seed), has_optimizer=has_optimizer)
    for name, content in held.items():
        path = path_of(folder, variant, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
    return folder


def install(folder: Path, variant: Variant, *, seed: int = 0) -> Path:
    """A folder with the imported weights of a variant."""
    release = write_release(folder / "release", variant, seed=seed)
    import_weights(variant, FolderSource(release), folder / "home")
    return folder / "home"


def write_size_table(folder: Path, table: Any) -> Path:
    """The sizes of patients `[N, 10]` as they are released, below `folder`."""
    path = folder / SIZE_TABLE_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"organ_size": row.tolist()} for row in table]), encoding="utf-8")
    return path
