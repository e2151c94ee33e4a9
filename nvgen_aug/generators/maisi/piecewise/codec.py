"""Codec: an autoencoder that decodes and encodes volumes of any size, and any part of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from ..networks import Autoencoder
from .arithmetic import Sink
from .memory import free_bytes
from .plan import Plan
from .runner import Ran
from .runner import Runner
from .spans import Box
from .spans import Grid
from .spans import Span
from .steps import steps_of


@final
@dataclass(frozen=True, slots=True)
class Decoded:
    """An image, and how it came about.

    Attributes:
        image: `[1, 1, X, Y, Z]` in network units: the box that was asked for.
        statistics: Float32 `[norms, groups, 2]`, mean and biased variance that the norms used.
        plan: How it was decoded.
    """

    image: torch.Tensor
    statistics: torch.Tensor
    plan: Plan


@final
class Codec:
    """Runs the networks of an autoencoder slab by slab where memory asks for it; never trains them.

    Whatever the plan, the result equals that of the networks run undivided, to rounding: halos
    instead of overlaps, and group norms over the whole volume. With the statistics of a whole
    decode, any box of the volume decodes alone; its halo of ten latent voxels shrinks layer by
    layer.

    Args:
        network: The autoencoder, ready to infer; it may be moved afterwards.
        free: Tells the free bytes of a device, or `None`.
        progress: Called before every step on every slab.
    """

    def __init__(
        self,
        network: Autoencoder,
        free: Callable[[torch.device], int | None] = free_bytes,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.network = network
        decoder = steps_of(network.post_quant_conv, *network.decoder.blocks)
        self.decoder = Runner(decoder, "decode", free, progress)
        self.encoder = Runner(steps_of(*network.encoder.blocks), "encode", free, progress)

    def decode(
        self,
        latent: torch.Tensor,
        *,
        box: Box | None = None,
        statistics: torch.Tensor | None = None,
        plan: Plan | None = None,
    ) -> Decoded:
        """The image of a latent, or a box of it.

        Args:
            latent: `[1, 4, x, y, z]`, all of it.
            box: Voxels wanted, as spans of x, y and z; `None` for all.
            statistics: As an earlier decode gave them; needed for a box.
            plan: How to decode; `None` for the best that memory allows.

        Raises:
            ValueError: for a box without statistics: its own would be others.
            OutOfMemory: if memory does not suffice.
        """
        pieces = _Pieces()
        ran = self.decode_into(pieces, latent, box=box, statistics=statistics, plan=plan)
        return Decoded(pieces.joined(), ran.statistics, ran.plan)

    def decode_into(
        self,
        sink: Sink,
        latent: torch.Tensor,
        *,
        box: Box | None = None,
        statistics: torch.Tensor | None = None,
        plan: Plan | None = None,
    ) -> Ran:
        """As `decode`, into a sink that gets the image slab by slab."""
        if box is not None and statistics is None:
            msg = "a box decodes alone only with the statistics of its volume; decode that first"
            raise ValueError(msg)
        return self.decoder.run(latent, sink, box=box, statistics=statistics, plan=plan)

    def decode_share(self, grid: Grid, box: Box) -> float:
        """Work of decoding a box alone, as a part of the work of decoding all of it.

        Args:
            grid: Voxels of the latent.
            box: Voxels of the image.
        """
        planner = self.decoder.planner
        return planner.flops(grid, box) / planner.flops(grid, planner.everything(grid))

    def encode(
        self, image: torch.Tensor, *, plan: Plan | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the latents of images, each `[B, 4, x, y, z]`.

        Args:
            image: `[B, 1, X, Y, Z]`.
            plan: How to encode; `None` for the best that memory allows.

        Raises:
            OutOfMemory: if memory does not suffice.
        """
        rows = []
        for one in torch.split(image, 1):
            pieces = _Pieces()
            self.encoder.run(one, pieces, plan=plan)
            with torch.no_grad():
                rows.append(self.network.moments(pieces.joined()))
        means, deviations = zip(*rows, strict=True)
        return torch.cat(means), torch.cat(deviations)


class _Pieces:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self._pieces: list[torch.Tensor] = []

    def begin(self) -> None:
        self._pieces.clear()

    def write(self, span: Span, planes: torch.Tensor) -> None:
        self._pieces.append(planes)

    def joined(self) -> torch.Tensor:
        return self._pieces[0] if len(self._pieces) == 1 else torch.cat(self._pieces, dim=2)
