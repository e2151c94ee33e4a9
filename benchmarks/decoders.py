"""Decoders: ours and MONAI's with the same random weights, before the same latent."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from benchmarks.full_width import monai_autoencoder
from benchmarks.full_width import redrawn
from benchmarks.nv_generate import NvGenerate
from benchmarks.nv_generate import Tiling
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.piecewise.codec import Codec
from nvgen_aug.generators.maisi.piecewise.spans import Box
from nvgen_aug.generators.maisi.piecewise.spans import grid_of
from nvgen_aug.generators.maisi.placement import PRECISIONS
from nvgen_aug.generators.maisi.placement import place
from nvgen_aug.generators.maisi.shapes import AutoencoderShape

Run = Callable[[], torch.Tensor]


@final
class Decoders:
    """Everybody who can decode one latent.

    Args:
        shape: Widths and groups of the network.
        latent: Edges of the latent.
        device: Where all run.
        precision: `fp32` or `fp16`; peers in half run under autocast, as NV-Generate does.
    """

    def __init__(
        self,
        shape: AutoencoderShape,
        latent: tuple[int, int, int],
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.shape = shape
        self.device = device
        self._is_half = precision != "fp32"
        self._weights = redrawn(monai_autoencoder(shape)).state_dict()
        self._own = build_autoencoder(shape)
        self._own.load_state_dict(self._weights)
        place(self._own, torch.device(device), precision)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn((1, shape.latent, *latent), generator=generator)
        self._latent = drawn.to(device, PRECISIONS[precision])
        self._codec = Codec(self._own)
        self._reference: torch.Tensor | None = None

    def ours(self) -> Run:
        """This package's decode of the whole volume, as its planner has it."""
        return lambda: self._codec.decode(self._latent).image

    def planned(self, name: str, planes: int | None) -> Run:
        """The same under a plan of this name, whatever memory allows."""
        planner, grid = self._codec.decoder.planner, grid_of(self._latent)
        box = planner.everything(grid)
        plan = planner.rehearse(name, planes, grid, box, has_statistics=False)
        return lambda: self._codec.decode(self._latent, plan=plan).image

    def crop(self, box: Box) -> Run:
        """A box of the image alone, the statistics of the whole being known."""
        statistics = self._codec.decode(self._latent).statistics
        return lambda: self._codec.decode(self._latent, box=box, statistics=statistics).image

    def cold_crop(self, box: Box) -> Run:
        """A box of the image when nothing is known: a decode of the whole, then of the box."""

        def run() -> torch.Tensor:
            statistics = self._codec.decode(self._latent).statistics
            return self._codec.decode(self._latent, box=box, statistics=statistics).image

        return run

    def monai(self, num_splits: int) -> Run:
        """MONAI's network, whole."""
        network = self._monai(num_splits)
        return lambda: self._peer(lambda: network.decode(self._latent))

    def compiled(self) -> Run:
        """MONAI's network behind `torch.compile` with its default flags."""
        decode = torch.compile(self._monai(1).decode)
        return lambda: self._peer(lambda: decode(self._latent))

    def windowed(self, tiling: Tiling) -> Run:
        """MONAI's network behind MONAI's sliding window."""
        network = self._monai(tiling.num_splits)
        inferer = tiling.inferer(self.device)

        def run() -> torch.Tensor:
            image = inferer(self._latent, network.decode)
            assert isinstance(image, torch.Tensor)
            return image

        return lambda: self._peer(run)

    def of_checkout(self, checkout: NvGenerate, tiling: Tiling) -> Run:
        """NV-Generate's own functions, with a network of its own configuration and our weights."""
        network = checkout.autoencoder(
            num_splits=tiling.num_splits,
            norm_float16=self._is_half,
            num_channels=list(self.shape.widths),
            norm_num_groups=self.shape.groups,
        )
        network.load_state_dict(self._weights)
        network.to(self.device).eval().requires_grad_(False)
        return lambda: checkout.decode(network, self._latent, tiling)

    def relative_rms(self, image: torch.Tensor, box: Box | None = None) -> float:
        """Error of an image, or of a box of it, against MONAI's undivided decode in float32."""
        if self._reference is None:
            network = self._monai(1)
            with torch.inference_mode():
                self._reference = network.decode(self._latent.float()).cpu().double()
        x, y, z = (slice(None),) * 3 if box is None else (slice(*span) for span in box)
        reference = self._reference[..., x, y, z]
        difference = image.detach().cpu().double() - reference
        return float(difference.norm() / reference.norm())

    def _monai(self, num_splits: int) -> AutoencoderKlMaisi:
        network = monai_autoencoder(self.shape, num_splits=num_splits, norm_float16=self._is_half)
        network.load_state_dict(self._weights)
        network.to(self.device).eval().requires_grad_(False)
        return network

    def _peer(self, run: Run) -> torch.Tensor:
        with torch.amp.autocast("cuda", enabled=self._is_half and self.device != "cpu"):
            return _quietly(run)


def _quietly(run: Run) -> torch.Tensor:
    with torch.inference_mode():
        return run()
