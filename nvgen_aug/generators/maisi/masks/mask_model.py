"""MaskModel: the two networks that draw a label map from a vector of organ and tumour sizes.

A diffusion in the latent space of an autoencoder of label maps (Guo et al., MAISI, 2024): the UNet
is told the sizes as the one token that it attends to, and the decoder gives a channel for each of
its 125 labels.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ..ddpm import chain
from ..ddpm import walk
from ..flow import draw_noise
from ..networks import MaskDecoder
from ..networks import build_mask_flow
from ..networks import tensors_of
from ..piecewise.runner import Runner
from ..piecewise.spans import Span
from ..piecewise.steps import steps_of
from ..placement import place
from ..placement import use_onednn
from ..quality import check_finite
from ..reference import precision_of
from ..reference import reference_decode
from ..reference import reference_links
from ..reference import reference_noise
from ..releases import MASK_AUTOENCODER
from ..releases import MASK_FLOW
from ..shapes import MaskModelShape
from ..variants import Variant
from ..vocabulary import mask_channel_to_id
from ..weights import Weights
from ..weights import check_fit
from ..weights import fill_network


@final
class MaskModel:
    """The mask networks of a variant.

    Args:
        variant: Whose they are.
        weights: Where their tensors are.
        device: Where they run.
        precision: Of the decoder; the UNet runs under autocast if it is not `"fp32"`.
        progress: Called before every evaluation, and now and then while a mask is decoded.

    Attributes:
        shape: Of the networks.
        patients: Sizes that complete a request, `[N, 10]`; `None` if they were not imported.

    Raises:
        WeightsError: The networks' files are missing, damaged or made for others.
    """

    def __init__(
        self,
        variant: Variant,
        weights: Weights,
        device: torch.device,
        precision: str,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        assert variant.mask_model is not None
        assert weights.mask_scale_factor is not None
        self.shape = variant.mask_model
        self.patients = weights.patients()
        self._window = variant.window_paired
        self._device = device
        self._is_half = precision != "fp32"
        self._scale = weights.mask_scale_factor
        self._progress = progress
        with torch.device("meta"):
            self._flow = build_mask_flow(self.shape)
            self._decoder = MaskDecoder(self.shape)
        weights.fill(self._flow, MASK_FLOW)
        whole = weights.read(MASK_AUTOENCODER)
        check_fit(whole, tensors_of(variant, MASK_AUTOENCODER), MASK_AUTOENCODER, weights.source)
        drawing = {key: whole[key] for key in self._decoder.state_dict()}
        fill_network(self._decoder, drawing, MASK_AUTOENCODER, weights.source)
        # Its attention computes in single precision whatever its weights, and torch's fused
        # attention takes no mixture: half precision is left to autocast, as upstream does.
        self._flow.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self._flow.requires_grad_(False)
        if device.type == "cpu":
            use_onednn(self._flow)
        place(self._decoder, device, precision)

    @torch.inference_mode()
    def draw(
        self,
        sizes: Sequence[float],
        steps: int,
        *,
        noise_seed: int,
        link_seed: int,
    ) -> NDArray[np.uint8]:
        """A label map as the networks leave it, `[X, Y, Z]`, ids of the vocabulary.

        Args:
            sizes: What they are told, in the order of `size_vector`.
            steps: Evaluations of the UNet, 1 to 1000.
            noise_seed: Where the first state comes from.
            link_seed: Where the noise of the links comes from.

        Raises:
            GenerationError: They gave values that are not finite.
        """
        plan = chain(steps)
        estimate = self._estimate(sizes)
        noise = draw_noise((1, *self.shape.latent), noise_seed).to(self._device)
        latent = walk(lambda x, k: estimate(x, plan.times[k]), noise, plan, link_seed)
        latent = latent / self._scale
        check_finite(latent, "mask's latent", noise_seed)
        taken = _Labels(self.shape)
        modules = (self._decoder.post_quant_conv, *self._decoder.decoder.blocks)
        Runner(steps_of(*modules), "draw a mask", progress=self._progress).run(latent, taken)
        return taken.ids

    @torch.inference_mode()
    def draw_as_reference(self, sizes: Sequence[float], steps: int, seed: int) -> NDArray[np.uint8]:
        """As `draw`, with the numbers of NV-Generate for the same weights and noise."""
        decoder = self._decoder
        estimate = self._estimate(sizes, is_reference=True)
        noise, generator = reference_noise(
            (1, *self.shape.latent), seed, self._device, is_paired=True
        )
        latent = reference_links(estimate, noise, steps, generator) / self._scale
        kind = decoder.post_quant_conv.conv.weight.dtype

        def decode(part: torch.Tensor) -> torch.Tensor:
            self._progress()
            made: torch.Tensor = decoder(part.to(kind, memory_format=torch.channels_last_3d))
            return made

        taken = _Labels(self.shape)
        channels = reference_decode(decode, latent, self._window)
        taken.write((0, channels.shape[2]), channels)
        return taken.ids

    def _estimate(
        self, sizes: Sequence[float], *, is_reference: bool = False
    ) -> Callable[[torch.Tensor, float], torch.Tensor]:
        """The noise in a state `[1, C, x, y, z]` at a time in 0..999, in the state's type."""
        context = torch.tensor([[list(sizes)]], dtype=torch.float32)
        if is_reference:
            context = context.half().float()
        context = context.to(self._device)

        def estimate(x: torch.Tensor, time: float) -> torch.Tensor:
            self._progress()
            times = torch.full((1,), time, device=self._device)
            with precision_of(self._device, is_half=is_reference or self._is_half):
                found: torch.Tensor = self._flow(x.float(), timesteps=times, context=context)
            return found.to(x.dtype)

        return estimate


class _Labels:
    """A sink that keeps of all channels only the number of the greatest, as an id."""

    def __init__(self, shape: MaskModelShape) -> None:
        self._table = torch.tensor(
            [mask_channel_to_id(channel) for channel in range(shape.classes)], dtype=torch.uint8
        )
        self._pieces: list[NDArray[np.uint8]] = []

    @property
    def ids(self) -> NDArray[np.uint8]:
        return np.concatenate(self._pieces)

    def begin(self) -> None:
        self._pieces.clear()

    def write(self, span: Span, planes: torch.Tensor) -> None:
        # Plane by plane: the indices alone would take 8 bytes a voxel.
        for plane in planes[0].unbind(1):
            self._pieces.append(self._table[plane.argmax(0).cpu()][None].numpy())
