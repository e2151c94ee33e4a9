"""Flows: ours and MONAI's with the same random weights, before the same noise and mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import final

import torch
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.schedulers import RFlowScheduler

from benchmarks.full_width import redrawn
from nvgen_aug.generators.maisi.conditioning import mask_bits
from nvgen_aug.generators.maisi.conditioning import modality_tensor
from nvgen_aug.generators.maisi.conditioning import spacing_tensor
from nvgen_aug.generators.maisi.flow import Schedule
from nvgen_aug.generators.maisi.flow import schedule
from nvgen_aug.generators.maisi.flow import solve
from nvgen_aug.generators.maisi.networks import build_control
from nvgen_aug.generators.maisi.networks import build_flow
from nvgen_aug.generators.maisi.placement import place
from nvgen_aug.generators.maisi.shapes import FlowShape
from nvgen_aug.generators.maisi.velocity import ControlStep
from nvgen_aug.generators.maisi.velocity import FlowStep
from nvgen_aug.generators.maisi.velocity import Guidance
from nvgen_aug.generators.maisi.velocity import Velocity

LATENT, MODALITY, SPACING = 4, 1, (1.5, 1.5, 2.0)
Run = Callable[[], torch.Tensor]


@final
class Flows:
    """Both ways to follow one flow, under a ControlNet, without guidance.

    Args:
        shape: Of the networks.
        latent: Edges of the latent.
        device: Where all run.
        steps: Evaluations of the networks.
    """

    def __init__(
        self, shape: FlowShape, latent: tuple[int, int, int], device: str = "cpu", steps: int = 30
    ) -> None:
        self.device = device
        self._is_half = device != "cpu"
        self._shape = shape
        self._plan = schedule(steps, latent[0] * latent[1] * latent[2], "reference")
        self.steps = steps
        generator = torch.Generator().manual_seed(0)
        self._noise = torch.randn((1, LATENT, *latent), generator=generator).to(device)
        image = tuple(4 * n for n in latent)
        label = torch.randint(0, 120, (1, *image), generator=generator, dtype=torch.uint8)
        self._mask = mask_bits(label.to(device), shape.mask_bits)
        control = redrawn(build_control(shape, LATENT), 1)
        flow = redrawn(build_flow(shape, LATENT), 2)
        self._peers = self._monai(control.state_dict(), flow.state_dict())
        precision = "fp16" if self._is_half else "fp32"
        self._control = ControlStep(place(control, torch.device(device), precision))
        self._flow = FlowStep(place(flow, torch.device(device), precision))

    def our_step(self) -> Run:
        """One evaluation, mask and times encoded before it as they are once for a volume."""
        with torch.inference_mode():
            velocity = self._velocity(self._plan)
        return lambda: _quietly(lambda: velocity(self._noise, 0))

    def our_volume(self) -> Run:
        """All evaluations, and what is encoded before them."""
        return lambda: _quietly(lambda: solve(self._velocity(self._plan), self._noise, self._plan))

    def monai_step(self) -> Run:
        """One evaluation as NV-Generate's loop makes it."""
        return lambda: self._as_peer(lambda: self._evaluate(self._noise, self._plan.times[0]))

    def monai_volume(self) -> Run:
        """All evaluations under MONAI's scheduler, as NV-Generate's loop makes them."""

        def run() -> torch.Tensor:
            scheduler = RFlowScheduler(
                num_train_timesteps=1000,
                use_discrete_timesteps=False,
                use_timestep_transform=True,
                sample_method="uniform",
                scale=1.4,
            )
            voxels: Any = torch.tensor(self._noise[0, 0].numel())  # as NV-Generate gives it
            scheduler.set_timesteps(self.steps, input_img_size_numel=voxels)
            times = scheduler.timesteps
            ends = torch.cat((times[1:], torch.zeros(1, dtype=times.dtype)))
            x = self._noise
            for time, end in zip(times, ends, strict=True):
                x, _ = scheduler.step(self._evaluate(x, float(time)), time, x, end)
            return x

        return lambda: self._as_peer(run)

    def difference(self, other: Run) -> Callable[[torch.Tensor], float]:
        """Relative RMS of a result against that of another run."""
        reference: list[torch.Tensor] = []

        def check(result: torch.Tensor) -> float:
            if not reference:
                reference.append(other().double())
            return float((result.double() - reference[0]).norm() / reference[0].norm())

        return check

    def _velocity(self, plan: Schedule) -> Velocity:
        mask = self._mask.contiguous(memory_format=torch.channels_last_3d)
        return Velocity(
            self._control,
            self._flow,
            plan,
            condition=mask,
            modality=MODALITY,
            spacing=SPACING,
            guidance=Guidance(),
        )

    def _evaluate(self, x: torch.Tensor, time: float) -> torch.Tensor:
        control, flow = self._peers
        times = torch.tensor([time], device=self.device)
        classes = modality_tensor(MODALITY).to(self.device)
        down, middle = control(
            x=x, timesteps=times, controlnet_cond=self._mask, class_labels=classes
        )
        velocity: torch.Tensor = flow(
            x=x,
            timesteps=times,
            class_labels=classes,
            spacing_tensor=spacing_tensor(SPACING).to(self.device),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )
        return velocity

    def _monai(self, control: dict[str, Any], flow: dict[str, Any]) -> tuple[Any, Any]:
        shape = self._shape
        shared: dict[str, Any] = {
            "spatial_dims": 3,
            "in_channels": LATENT,
            "num_channels": list(shape.channels),
            "attention_levels": list(shape.attention),
            "num_head_channels": list(shape.head_channels),
            "num_res_blocks": shape.residual_blocks,
            "norm_num_groups": shape.norm_groups,
            # As NV-Generate has it; MONAI refuses it on a processor.
            "use_flash_attention": self._is_half,
            "num_class_embeds": shape.class_embeds,
            "resblock_updown": True,
            "include_fc": True,
        }
        networks = (
            ControlNetMaisi(
                conditioning_embedding_in_channels=shape.mask_bits,
                conditioning_embedding_num_channels=list(shape.condition_channels),
                **shared,
            ),
            DiffusionModelUNetMaisi(out_channels=LATENT, include_spacing_input=True, **shared),
        )
        for network, weights in zip(networks, (control, flow), strict=True):
            network.load_state_dict(weights)
            network.to(self.device).eval().requires_grad_(False)
        return networks

    def _as_peer(self, run: Run) -> torch.Tensor:
        with torch.amp.autocast("cuda", enabled=self._is_half):
            return _quietly(run)


def _quietly(run: Run) -> torch.Tensor:
    with torch.inference_mode():
        return run()
