"""The autoencoder is MAISI's."""

from __future__ import annotations

import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.shapes import AutoencoderShape
from tests.generators.tiny import randomized

WIDTHS, GROUPS = (4, 8, 8), 2


def reference(widths: tuple[int, ...] = WIDTHS, groups: int = GROUPS) -> AutoencoderKlMaisi:
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        latent_channels=4,
        num_channels=widths,
        num_res_blocks=(2, 2, 2),
        norm_num_groups=groups,
        norm_eps=1e-6,
        attention_levels=(False, False, False),
        num_splits=1,
        norm_float16=False,
    )


@pytest.fixture
def ours() -> Autoencoder:
    network = Autoencoder(WIDTHS, GROUPS)
    randomized(network, seed=5)
    return network


@pytest.fixture
def theirs(ours: Autoencoder) -> AutoencoderKlMaisi:
    network = reference()
    network.load_state_dict(ours.state_dict())
    return network.eval()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("widths", "groups"), [((4, 8, 8), 2), ((8, 16, 64), 2), ((8, 8, 8), 8)])
def test_it_has_the_keys_and_shapes_of_monais(widths: tuple[int, ...], groups: int) -> None:
    with torch.device("meta"):
        ours = build_autoencoder(AutoencoderShape(widths, groups)).state_dict()
        theirs = reference(widths, groups).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_of_full_width_it_has_130_tensors_and_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        state = build_autoencoder(AutoencoderShape((64, 128, 256), 32)).state_dict()
    assert len(state) == 130
    assert sum(v.numel() for v in state.values()) == 20_944_897
    decoder = sum(v.numel() for k, v in state.items() if k.startswith("decoder."))
    assert decoder == 12_131_585


@pytest.mark.parametrize(
    "key",
    [
        "encoder.blocks.0.conv.conv.weight",
        "encoder.blocks.3.conv.conv.conv.weight",
        "encoder.blocks.4.nin_shortcut.conv.conv.weight",
        "encoder.blocks.9.weight",
        "decoder.blocks.6.conv.conv.conv.bias",
        "decoder.blocks.8.conv2.conv.conv.weight",
        "quant_conv_log_sigma.conv.weight",
        "post_quant_conv.conv.bias",
    ],
)
def test_keys_follow_the_grammar_of_the_released_checkpoints(ours: Autoencoder, key: str) -> None:
    assert key in ours.state_dict()


@torch.inference_mode()
def test_it_encodes_as_monais_does(ours: Autoencoder, theirs: AutoencoderKlMaisi) -> None:
    image = drawn(2, 1, 16, 12, 8)
    for mine, other in zip(ours.encode(image), theirs.encode(image), strict=True):
        assert mine.shape == (2, 4, 4, 3, 2)
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_it_decodes_as_monais_does(ours: Autoencoder, theirs: AutoencoderKlMaisi) -> None:
    latent = drawn(2, 4, 4, 3, 2)
    image = ours.decode(latent)
    assert image.shape == (2, 1, 16, 12, 8)
    torch.testing.assert_close(image, theirs.decode(latent), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_log_variance_is_clamped_to_the_range_of_the_family(ours: Autoencoder) -> None:
    image = drawn(1, 1, 8, 8, 8)
    for bias, log_variance in ((1000.0, 20.0), (-1000.0, -30.0)):
        ours.quant_conv_log_sigma.conv.bias.fill_(bias)
        _, deviation = ours.encode(image)
        expected = torch.full_like(deviation, log_variance / 2).exp()
        torch.testing.assert_close(deviation, expected)
