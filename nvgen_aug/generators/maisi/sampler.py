"""Sampler: from noise to a latent, by the solver and with the numerics that a spec asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ...spec import VolumeSpec
from .conditioning import image_condition
from .conditioning import mask_bits
from .conditioning import region_tensor
from .ddpm import Chain
from .ddpm import chain
from .ddpm import walk
from .flow import Schedule
from .flow import draw_noise
from .flow import schedule
from .flow import solve
from .masks.given_mask import body_region
from .masks.healthy import without_tumours
from .reference import Told
from .reference import reference_ddpm
from .reference import reference_flow
from .reference import reference_noise
from .streams import LINK
from .streams import NOISE
from .streams import stream
from .variants import Variant
from .velocity import ControlStep
from .velocity import FlowStep
from .velocity import Guidance
from .velocity import Run
from .velocity import Velocity


@final
class Sampler:
    """The networks that lead from noise to a latent.

    Args:
        variant: Whose networks they are.
        flow: The UNet.
        control: The ControlNet, or `None`.
        device: Where they run.
        image_control: The ControlNet that follows images, or `None`.
        run_flow, run_control: How they run, if not by being called; `reference` calls them.
    """

    def __init__(
        self,
        variant: Variant,
        flow: FlowStep,
        control: ControlStep | None,
        device: torch.device,
        *,
        image_control: ControlStep | None = None,
        run_flow: Run | None = None,
        run_control: Run | None = None,
    ) -> None:
        self._variant = variant
        self._image_control = image_control
        self._flow = flow
        self._control = control
        self._device = device
        self._run_flow = run_flow
        self._run_control = run_control
        self.on_step: Callable[[], None] = lambda: None  # called before each evaluation

    @torch.inference_mode()
    def latent(
        self,
        spec: VolumeSpec,
        label: NDArray[np.uint8] | None,
        subject: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`[1, C, x, y, z]` as the networks were trained on it, before it is scaled back.

        Args:
            spec: Resolved.
            label: `[X, Y, Z]`, or `None` for an image alone.
            subject: Scaled latent of an image to follow, `[1, C, x, y, z]`, or `None`. The label
                then steers nothing: what it says of the subject, the image shows.
        """
        assert spec.size is not None
        small = [n // self._variant.compression for n in spec.size]
        shape = (1, self._variant.autoencoder.latent, *small)
        region = None
        if self._variant.flow.body_region:
            region = spec.body_region or (None if label is None else body_region(label))
        batch = None if label is None else torch.from_numpy(label)[None]
        healthy = None
        if label is not None and spec.guidance and self._variant.guides_tumours:
            healthy = torch.from_numpy(without_tumours(label))[None]
        if spec.numerics == "reference":
            return self._reference(spec, shape, batch, healthy, region)
        return self._exact(spec, shape, batch, healthy, region, subject)

    def _exact(
        self,
        spec: VolumeSpec,
        shape: tuple[int, ...],
        label: torch.Tensor | None,
        healthy: torch.Tensor | None,
        region: tuple[str, str] | None,
        subject: torch.Tensor | None,
    ) -> torch.Tensor:
        assert spec.spacing is not None
        assert spec.modality is not None
        assert spec.solver is not None
        assert spec.steps is not None
        condition, control, run_control = None, None, None
        if subject is not None:
            control, condition = self._image_control, image_condition(subject)
        elif label is not None:
            control, run_control = self._control, self._run_control
            both = label if healthy is None else torch.cat([label, healthy])
            condition = mask_bits(both.to(self._device), self._variant.flow.mask_bits)
        if condition is not None:
            condition = condition.contiguous(memory_format=torch.channels_last_3d)
        told = None
        if region is not None:
            first, last = (region_tensor(name, self._variant.body_regions) for name in region)
            told = (first, last)
        plan: Chain | Schedule
        if spec.solver == "ddpm":
            plan = chain(spec.steps)
        else:
            plan = schedule(spec.steps, math.prod(shape[2:]), spec.numerics, spec.solver)
        velocity = Velocity(
            control,
            self._flow,
            plan,
            condition=condition,
            modality=self._variant.modalities[spec.modality],
            spacing=spec.spacing,
            guidance=Guidance(spec.guidance or 0.0, spec.guidance_interval),
            regions=told,
            run_control=run_control,
            run_flow=self._run_flow,
        )

        def evaluated(x: torch.Tensor, k: int) -> torch.Tensor:
            self.on_step()
            return velocity(x, k)

        noise = draw_noise(shape, stream(spec.seed, NOISE)).to(self._device)
        if isinstance(plan, Chain):
            return walk(evaluated, noise, plan, stream(spec.seed, LINK))
        return solve(evaluated, noise, plan)

    def _reference(
        self,
        spec: VolumeSpec,
        shape: tuple[int, ...],
        label: torch.Tensor | None,
        healthy: torch.Tensor | None,
        region: tuple[str, str] | None,
    ) -> torch.Tensor:
        assert spec.spacing is not None
        assert spec.modality is not None
        assert spec.steps is not None
        names = self._variant.body_regions
        knows_modality = self._variant.flow.class_embeds is not None
        told = Told(
            label=label,
            modality=self._variant.modalities[spec.modality] if knows_modality else None,
            spacing=spec.spacing,
            regions=region and (names.index(region[0]), names.index(region[1]), len(names)),
            guidance=spec.guidance or 0.0,
            healthy=healthy,
        )
        control = None if self._control is None else self._control.network
        noise, generator = reference_noise(
            shape, spec.seed, self._device, is_paired=label is not None
        )
        if spec.solver == "ddpm":
            return reference_ddpm(self._flow.network, control, told, noise, spec.steps, generator)
        return reference_flow(self._flow.network, control, told, noise, spec.steps)
