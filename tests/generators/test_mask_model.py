"""The mask networks draw what MONAI's own parts draw, put together as NV-Generate does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.inferers.inferer import DiffusionInferer
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import nn

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi.masks.mask_model import MaskModel
from nvgen_aug.generators.maisi.networks import MaskDecoder
from nvgen_aug.generators.maisi.piecewise.runner import Runner
from nvgen_aug.generators.maisi.piecewise.spans import Box
from nvgen_aug.generators.maisi.piecewise.spans import Span
from nvgen_aug.generators.maisi.piecewise.spans import slices
from nvgen_aug.generators.maisi.piecewise.spans import whole
from nvgen_aug.generators.maisi.piecewise.steps import steps_of
from nvgen_aug.generators.maisi.shapes import MaskModelShape
from nvgen_aug.generators.maisi.vocabulary import mask_channel_to_id
from nvgen_aug.generators.maisi.weights import imported_weights
from tests.generators.released import NARROW
from tests.generators.released import install
from tests.generators.released import random_networks
from tests.generators.schedulers import ddpm_scheduler

VARIANT = NARROW["rflow-ct"]
SIZES = (0.1, 0.5, 0.25, -1.0, 0.75, -1.0, -1.0, 0.5, -1.0, -1.0)
STEPS = 7
SCALE = 1.0055984258651733
CPU = torch.device("cpu")


def shape() -> MaskModelShape:
    assert VARIANT.mask_model is not None
    return VARIANT.mask_model


def upstream() -> tuple[nn.Module, nn.Module]:
    """MONAI's UNet and autoencoder of masks, with the weights of the narrow variant."""
    narrow = shape()
    unet = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=4,
        out_channels=4,
        channels=narrow.channels,
        attention_levels=narrow.attention,
        num_head_channels=narrow.head_channels,
        num_res_blocks=2,
        norm_num_groups=narrow.norm_groups,
        with_conditioning=True,
        cross_attention_dim=10,
        upcast_attention=True,
    )
    autoencoder = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=8,
        out_channels=125,
        latent_channels=4,
        num_channels=narrow.widths,
        num_res_blocks=narrow.blocks,
        norm_num_groups=narrow.groups,
        norm_eps=1e-6,
        attention_levels=(False, False, False),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        use_convtranspose=True,
        norm_float16=False,  # half precision is a GPU's
        num_splits=1,
        dim_split=1,
    )
    weights = random_networks(VARIANT)
    unet.load_state_dict(weights["mask_flow"].state_dict())
    autoencoder.load_state_dict(weights["mask_autoencoder"].state_dict())
    return unet.eval(), autoencoder.eval()


def decoder() -> MaskDecoder:
    made = MaskDecoder(shape())
    weights = random_networks(VARIANT)["mask_autoencoder"].state_dict()
    made.load_state_dict({key: weights[key] for key in made.state_dict()})
    return made.eval()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("weights"), VARIANT)


def model(home: Path) -> MaskModel:
    return MaskModel(VARIANT, imported_weights(home, VARIANT.name), CPU, "fp32")


def noise(*sizes: int, seed: int = 5) -> torch.Tensor:
    return torch.randn((1, 4, *sizes), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_the_decoder_is_the_released_one() -> None:
    _, autoencoder = upstream()
    latent = noise(4, 6, 8)
    wanted: Any = autoencoder.decode(latent)  # type: ignore[operator]
    torch.testing.assert_close(decoder()(latent), wanted, rtol=1e-4, atol=1e-4)


class Kept:
    def __init__(self) -> None:
        self.pieces: list[torch.Tensor] = []

    def begin(self) -> None:
        self.pieces.clear()

    def write(self, span: Span, planes: torch.Tensor) -> None:
        self.pieces.append(planes)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "planes"), [("whole", None), ("slabs", 5), ("recompute", 4), ("scan", 8)]
)
def test_in_pieces_it_draws_as_undivided(name: str, planes: int | None) -> None:
    network, latent = decoder(), noise(5, 4, 6)
    runner = Runner(steps_of(network.post_quant_conv, *network.decoder.blocks), "decode")
    everything = runner.planner.everything((5, 4, 6))
    assert everything == whole((20, 16, 24))
    plan = runner.planner.rehearse(name, planes, (5, 4, 6), everything, has_statistics=False)
    kept = Kept()
    runner.run(latent, kept, plan=plan)
    found = torch.cat(kept.pieces, dim=2)
    torch.testing.assert_close(found, network(latent), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("box", [((3, 10), (0, 16), (7, 8)), ((11, 20), (5, 9), (14, 24))])
def test_a_box_of_it_is_that_part_of_the_whole(box: Box) -> None:
    network, latent = decoder(), noise(5, 4, 6)
    runner = Runner(steps_of(network.post_quant_conv, *network.decoder.blocks), "decode")
    kept = Kept()
    statistics = runner.run(latent, kept).statistics
    everything = torch.cat(kept.pieces, dim=2)
    runner.run(latent, kept, box=box, statistics=statistics)
    wanted = everything[slices(box, whole((20, 16, 24)))]
    torch.testing.assert_close(torch.cat(kept.pieces, dim=2), wanted, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_as_reference_it_draws_what_the_parts_of_monai_draw(home: Path) -> None:
    unet, autoencoder = upstream()
    scheduler = ddpm_scheduler(STEPS)
    context = torch.tensor([[SIZES]]).half()

    def estimate(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        # Upstream's networks run under autocast, which this processor lacks.
        found: torch.Tensor = unet(x.float(), timesteps=timesteps, context=context.float())
        return found.to(x.dtype)

    with torch.random.fork_rng():
        torch.manual_seed(3)  # NV-Generate draws from the global generator
        start = torch.randn((1, *shape().latent)).half()
        sample = DiffusionInferer(scheduler).sample
        latent: Any = sample(start, estimate, scheduler, verbose=False, conditioning=context)  # type: ignore[arg-type]
    assert latent.dtype == torch.float16
    channels: Any = autoencoder.decode((latent / SCALE).float())  # type: ignore[operator]
    wanted = channels[0].half().softmax(0).argmax(0)
    table = torch.tensor([mask_channel_to_id(k) for k in range(125)])
    found = model(home).draw_as_reference(SIZES, STEPS, seed=3)
    assert len(np.unique(found)) > 3
    differing = (torch.from_numpy(found) != table[wanted]).float().mean()
    assert differing < 0.01  # ties, in half precision
    other = model(home).draw_as_reference(SIZES[::-1], STEPS, seed=3)
    assert (found != other).mean() > 2 * float(differing)  # the sizes are heard


def test_the_same_seeds_draw_the_same_and_others_another(home: Path) -> None:
    drawing = model(home)

    def drawn(seed: int, link: int = 1, sizes: tuple[float, ...] = SIZES) -> Any:
        return drawing.draw(sizes, 3, noise_seed=seed, link_seed=link)

    first = drawn(1)
    assert first.shape == (32, 32, 32)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, drawn(1))
    assert (first != drawn(2)).mean() > 0.1
    assert (first != drawn(1, link=2)).mean() > 0.01
    assert (first != drawn(1, sizes=(0.9, *SIZES[1:]))).any()


def test_its_ids_are_those_of_the_vocabulary(home: Path) -> None:
    found = model(home).draw(SIZES, 2, noise_seed=1, link_seed=1)
    assert set(np.unique(found).tolist()) <= {mask_channel_to_id(k) for k in range(125)}


def test_weights_of_other_mask_networks_are_refused(tmp_path: Path) -> None:
    home = install(tmp_path, VARIANT)
    other = NARROW["ddpm-ct"]
    weights = imported_weights(home, VARIANT.name)
    for path in home.glob("mask_autoencoder*.safetensors"):
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsError, match="import the weights again"):
        MaskModel(other, weights, CPU, "fp32").draw(SIZES, 1, noise_seed=1, link_seed=1)
