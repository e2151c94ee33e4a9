"""`reference` gives the numbers of MONAI's own parts, put together as NV-Generate does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.inferers.inferer import SlidingWindowInferer
from torch import nn

from nvgen_aug.generators.maisi import flow as flow_module
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.piecewise.codec import Codec
from nvgen_aug.generators.maisi.reference import Told
from nvgen_aug.generators.maisi.reference import reference_ddpm
from nvgen_aug.generators.maisi.reference import reference_decode
from nvgen_aug.generators.maisi.reference import reference_flow
from nvgen_aug.generators.maisi.reference import reference_noise
from nvgen_aug.generators.maisi.releases import MASK_NETWORKS
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.variants import Variant
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.generators.released import NARROW
from tests.generators.released import SCALE
from tests.generators.released import random_networks
from tests.generators.released import write_release
from tests.generators.schedulers import ddpm_scheduler
from tests.generators.schedulers import rflow_scheduler

# Windows of 4 latent voxels: as small as 8 are to be tiled.
WINDOW = ((4, 4, 4), 0.4)
RFLOW = replace(NARROW["rflow-ct"], window_alone=WINDOW, window_paired=WINDOW)
DDPM = replace(NARROW["ddpm-ct"], window_alone=WINDOW, window_paired=WINDOW)
STEPS = 7  # times of 8 steps or of 2 would be whole numbers, with nothing to round
SPACING = (1.377, 1.377, 2.211)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Upstream:
    """MONAI's networks with the weights of a variant."""

    variant: Variant
    autoencoder: nn.Module
    unet: nn.Module
    control: nn.Module

    @classmethod
    def of(cls, variant: Variant) -> Upstream:
        shape = variant.flow
        trunk: dict[str, Any] = {
            "spatial_dims": 3,
            "in_channels": 4,
            "num_channels": shape.channels,
            "attention_levels": shape.attention,
            "num_head_channels": shape.head_channels,
            "num_res_blocks": 2,
            "norm_num_groups": shape.norm_groups,
            "num_class_embeds": shape.class_embeds,
            "resblock_updown": shape.residual_resampling,
            "include_fc": shape.attention_projection,
        }
        unet = DiffusionModelUNetMaisi(
            out_channels=4,
            include_spacing_input=True,
            include_top_region_index_input=shape.body_region,
            include_bottom_region_index_input=shape.body_region,
            **trunk,
        )
        control = ControlNetMaisi(
            conditioning_embedding_in_channels=8,
            conditioning_embedding_num_channels=shape.condition_channels,
            use_checkpointing=False,
            **trunk,
        )
        autoencoder = AutoencoderKlMaisi(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            latent_channels=4,
            num_channels=variant.autoencoder.widths,
            num_res_blocks=(2, 2, 2),
            norm_num_groups=variant.autoencoder.groups,
            norm_eps=1e-6,
            attention_levels=(False, False, False),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
            norm_float16=False,  # half precision is a GPU's
            num_splits=1,
            dim_split=1,
        )
        weights = random_networks(variant)
        for network, name in ((unet, "flow"), (control, "control"), (autoencoder, "autoencoder")):
            network.load_state_dict(weights[name].state_dict())
            network.eval()
        return cls(variant, autoencoder, unet, control)

    def estimate(
        self, x: torch.Tensor, time: float, told: dict[str, Any], mask: torch.Tensor | None
    ) -> torch.Tensor:
        times = torch.Tensor((time,))
        classes = {k: v for k, v in told.items() if k == "class_labels"}
        added = {}
        if mask is not None:
            down, middle = self.control(x=x, timesteps=times, controlnet_cond=mask, **classes)
            added["down_block_additional_residuals"] = down
            added["mid_block_additional_residual"] = middle
        found: torch.Tensor = self.unet(x=x, timesteps=times, **told, **added)
        return found

    def flow(
        self,
        x: torch.Tensor,
        steps: int,
        told: dict[str, Any],
        mask: torch.Tensor | None = None,
        guidance: float = 0.0,
        healthy: torch.Tensor | None = None,
    ) -> torch.Tensor:
        scheduler = rflow_scheduler(steps, int(np.prod(x.shape[2:])))
        times = scheduler.timesteps
        for time, after in zip(times, torch.cat((times[1:], torch.zeros(1))), strict=True):
            found = self.estimate(x.float(), float(time), told, mask)
            if guidance:
                unknown = told | {"class_labels": torch.zeros(1, dtype=torch.int64)}
                other = self.estimate(x.float(), float(time), unknown, healthy)
                found = other + guidance * (found - other)
            # Under autocast an estimate is as precise as the state.
            x, _ = scheduler.step(found.to(x.dtype), time, x, after)
        return x

    def ddpm(
        self,
        x: torch.Tensor,
        steps: int,
        told: dict[str, Any],
        mask: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        scheduler = ddpm_scheduler(steps)
        for time in scheduler.timesteps:
            found = self.estimate(x.float(), float(time), told, mask).to(x.dtype)
            x, _ = scheduler.step(found, int(time), x, generator)
        return x

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        inferer = SlidingWindowInferer(
            roi_size=[4, 4, 4], sw_batch_size=1, mode="gaussian", overlap=0.4, device=CPU
        )
        found: torch.Tensor = inferer(
            network=lambda part: self.autoencoder.decode(part.float()), inputs=latent
        )
        return found


@pytest.fixture(scope="module")
def rflow() -> Upstream:
    return Upstream.of(RFLOW)


@pytest.fixture(scope="module")
def ddpm() -> Upstream:
    return Upstream.of(DDPM)


@pytest.fixture(scope="module")
def ours() -> dict[str, dict[str, nn.Module]]:
    return {v.name: random_networks(v) for v in (RFLOW, DDPM)}


def half(values: list[float]) -> torch.Tensor:
    return (torch.tensor([values]) * 100).half().float()


def ball(edge: int = 32) -> torch.Tensor:
    x, y, z = torch.meshgrid(*(torch.arange(edge) - edge / 2 + 0.5 for _ in range(3)))
    inside = x**2 + y**2 + z**2 < (edge * 0.4) ** 2
    return (inside * 200 - 199 * (inside & (x > 4))).to(torch.uint8)[None]


def planes(label: torch.Tensor) -> torch.Tensor:
    return torch.stack([(label // 2**k) % 2 for k in range(8)], dim=1).float()


def noise(seed: int = 5) -> torch.Tensor:
    return torch.randn((1, 4, 8, 8, 8), generator=torch.Generator().manual_seed(seed))


RFLOW_TOLD = {"class_labels": torch.tensor([1]), "spacing_tensor": half(list(SPACING))}
DDPM_TOLD = {
    "spacing_tensor": half(list(SPACING)),
    "top_region_index_tensor": half([0, 1, 0, 0]),
    "bottom_region_index_tensor": half([0, 0, 1, 0]),
}


@torch.inference_mode()
def alone(networks: dict[str, nn.Module]) -> torch.Tensor:
    told = Told(None, 1, SPACING)
    return reference_flow(networks["flow"], None, told, noise(), STEPS)


@torch.inference_mode()
def test_an_image_alone_by_rectified_flow(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]]
) -> None:
    found, wanted = alone(ours["rflow-ct"]), rflow.flow(noise(), STEPS, RFLOW_TOLD)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


@torch.inference_mode()
def test_an_image_alone_with_guidance(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]]
) -> None:
    told = Told(None, 1, SPACING, guidance=3.0)
    found = reference_flow(ours["rflow-ct"]["flow"], None, told, noise(), STEPS)
    wanted = rflow.flow(noise(), STEPS, RFLOW_TOLD, guidance=3.0)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted, rflow.flow(noise(), STEPS, RFLOW_TOLD), atol=1e-2)


@torch.inference_mode()
def test_an_image_under_a_mask_by_rectified_flow(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]]
) -> None:
    networks, label = ours["rflow-ct"], ball()
    told = Told(label, 1, SPACING)
    found = reference_flow(networks["flow"], networks["control"], told, noise().half(), STEPS)
    wanted = rflow.flow(noise().half(), STEPS, RFLOW_TOLD, planes(label))
    assert found.dtype == wanted.dtype == torch.float16
    torch.testing.assert_close(found.float(), wanted.float(), rtol=2e-3, atol=2e-3)
    unsteered = rflow.flow(noise().half(), STEPS, RFLOW_TOLD)
    assert not torch.allclose(wanted.float(), unsteered.float(), atol=5e-2)


@torch.inference_mode()
def test_an_image_under_a_mask_led_away_from_the_mask_without_tumours(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]]
) -> None:
    networks, healthy = ours["rflow-ct"], ball()
    label = healthy.clone()
    label[:, 21:26, 12:20, 12:20] = 26
    assert (healthy[label == 26] == 1).all()
    told = Told(label, 1, SPACING, guidance=3.0, healthy=healthy)
    found = reference_flow(networks["flow"], networks["control"], told, noise().half(), STEPS)
    start, both = noise().half(), (planes(label), planes(healthy))
    wanted = rflow.flow(start, STEPS, RFLOW_TOLD, both[0], guidance=3.0, healthy=both[1])
    torch.testing.assert_close(found.float(), wanted.float(), rtol=1e-2, atol=1e-2)
    away = rflow.flow(start, STEPS, RFLOW_TOLD, both[0], guidance=3.0, healthy=both[0])
    assert not torch.allclose(wanted.float(), away.float(), rtol=1e-2, atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("is_paired", [False, True])
def test_an_image_by_ddpm_with_its_body_region(
    ddpm: Upstream, ours: dict[str, dict[str, nn.Module]], is_paired: bool
) -> None:
    networks, label = ours["ddpm-ct"], ball() if is_paired else None
    start, generator = reference_noise((1, 4, 8, 8, 8), 5, CPU, is_paired=is_paired)
    told = Told(label, None, SPACING, regions=(1, 2, 4))
    found = reference_ddpm(networks["flow"], networks["control"], told, start, STEPS, generator)
    other = torch.Generator().manual_seed(5)
    begin = torch.randn((1, 4, 8, 8, 8), generator=other)
    mask = None if label is None else planes(label)
    wanted = ddpm.ddpm(begin.half() if is_paired else begin, STEPS, DDPM_TOLD, mask, other)
    assert found.dtype == wanted.dtype
    tolerance = 5e-3 if is_paired else 5e-5
    torch.testing.assert_close(found.float(), wanted.float(), rtol=tolerance, atol=tolerance)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_a_latent_is_decoded_in_windows(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]], kind: torch.dtype
) -> None:
    autoencoder = ours["rflow-ct"]["autoencoder"]
    assert isinstance(autoencoder, Autoencoder)
    latent = noise().to(kind)
    found = reference_decode(lambda part: autoencoder.decode(part.float()), latent, WINDOW)
    tolerance = 1e-4 if kind == torch.float32 else 5e-3
    torch.testing.assert_close(found, rflow.decode(latent), rtol=tolerance, atol=tolerance)


@torch.inference_mode()
def test_a_latent_of_no_more_voxels_than_a_window_is_decoded_at_once(
    ours: dict[str, dict[str, nn.Module]],
) -> None:
    autoencoder = ours["rflow-ct"]["autoencoder"]
    assert isinstance(autoencoder, Autoencoder)
    window = ((32, 4, 4), 0.4)  # longer than the latent along one axis, shorter along two
    found = reference_decode(autoencoder.decode, noise(), window)
    torch.testing.assert_close(found, autoencoder.decode(noise()), rtol=0, atol=0)


def with_times_unrounded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flow_module, "np", SimpleNamespace(float16=float))


def with_steps_that_add_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flow_module, "int", float, raising=False)


@torch.inference_mode()
@pytest.mark.parametrize("change", [with_times_unrounded, with_steps_that_add_up])
def test_the_comparison_hears_one_rounding_that_is_missing(
    rflow: Upstream,
    ours: dict[str, dict[str, nn.Module]],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    wanted = rflow.flow(noise(), STEPS, RFLOW_TOLD)
    change(monkeypatch)
    assert not torch.allclose(alone(ours["rflow-ct"]), wanted, rtol=2e-5, atol=2e-5)


@torch.inference_mode()
def test_the_comparison_hears_statistics_of_the_whole(
    rflow: Upstream, ours: dict[str, dict[str, nn.Module]]
) -> None:
    autoencoder = ours["rflow-ct"]["autoencoder"]
    assert isinstance(autoencoder, Autoencoder)
    codec = Codec(autoencoder)
    statistics = codec.decode(noise()).statistics
    found = reference_decode(
        lambda part: codec.decode(part, statistics=statistics).image, noise(), WINDOW
    )
    assert not torch.allclose(found, rflow.decode(noise()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("is_paired", [False, True])
def test_noise_is_that_of_the_seed_in_the_type_of_the_path(is_paired: bool) -> None:
    found, _ = reference_noise((1, 4, 8, 8, 8), 5, CPU, is_paired=is_paired)
    wanted = noise(5)
    assert torch.equal(found, wanted.half() if is_paired else wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    source = FolderSource(write_release(folder / "release", RFLOW))
    import_weights(RFLOW, source, folder / "home", without=MASK_NETWORKS)
    return folder / "home"


@torch.inference_mode()
@pytest.mark.parametrize("is_paired", [False, True])
def test_voxels_are_those_of_upstream_from_noise_to_hounsfield_units(
    rflow: Upstream, folder: Path, is_paired: bool
) -> None:
    label = ball()
    mask = Blob(label[0].numpy(), np.diag([*SPACING, 1.0])) if is_paired else None
    spec = VolumeSpec(
        "rflow-ct",
        seed=5,
        spacing=SPACING,
        steps=STEPS,
        numerics="reference",
        mask=mask.digest() if mask else None,
    )
    made = MaisiGenerator(RFLOW, weights=folder).generate(spec, mask)
    start = noise(5).half() if is_paired else noise(5)
    latent = rflow.flow(start, STEPS, RFLOW_TOLD, planes(label) if is_paired else None) / SCALE
    if is_paired:
        image = rflow.decode(latent).clip(0, 1) * 2000 - 1000
        image[label[None] == 0] = -1000
    else:
        # Under autocast the first layer sees the latent in half precision.
        image = (rflow.decode(latent.half().float()) * 2000 - 1000).clip(-1000, 1000)
    difference = np.abs(made.volume.image - image[0].numpy().astype(np.int16))
    assert (difference > 4).mean() < 0.01
    assert np.unique(made.volume.image).size > 50
    assert made.latent.statistics is None
