"""Steps: a network of the autoencoder as a list of convolutions, each with what surrounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from typing import final

import torch
from torch import nn

from ..layers import Convolution
from ..layers import Downsample
from ..layers import Kernel
from ..layers import ResidualBlock
from ..layers import TransposedUpsample
from ..layers import Upsample
from .spans import Box
from .spans import Grid
from .spans import Span
from .spans import around
from .spans import coarse_under
from .spans import fine_over
from .spans import hull
from .spans import scattered_from


@final
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One convolution: it reads one feature map and makes the next.

    Feature map 0 is the network's input, and step `k` makes map `k + 1`.

    Attributes:
        source: Number of the map it reads.
        convolution: Its weights.
        norm: Applied to what is read, if there is one.
        is_activated: Whether SiLU follows the norm.
        resize: `"up"` doubles the grid before the convolution, `"down"` halves it by a stride of 2,
            `"scatter"` doubles it by a transposed convolution of stride 2.
        added: Number of a map that is added to what comes out, or `None`.
    """

    source: int
    convolution: nn.Conv3d | nn.ConvTranspose3d
    norm: nn.GroupNorm | None = None
    is_activated: bool = False
    resize: Literal["up", "down", "scatter"] | None = None
    added: int | None = None

    def grid(self, source: Grid) -> Grid:
        """Voxels of what it makes, given those of what it reads."""
        x, y, z = source
        if self.is_doubling:
            return 2 * x, 2 * y, 2 * z
        return (x // 2, y // 2, z // 2) if self.resize == "down" else source

    @property
    def is_doubling(self) -> bool:
        """Whether it makes a grid of twice the edge."""
        return self.resize in ("up", "scatter")

    @property
    def channels(self) -> tuple[int, int]:
        """Of what it reads, and of what it makes."""
        return int(self.convolution.in_channels), int(self.convolution.out_channels)

    @property
    def margin(self) -> int:
        """Voxels that the kernel reaches to each side."""
        return int(self.convolution.kernel_size[0]) // 2

    def needs(self, span: Span, size: int) -> Span:
        """What it reads of an axis of `size` voxels to make a span."""
        if self.resize == "up":
            return coarse_under(around(span, 2 * size, self.margin), size)
        if self.resize == "down":
            return fine_over(span, size)
        if self.resize == "scatter":
            return scattered_from(span, size)
        return around(span, size, self.margin)

    def padding(self, span: Span, size: int) -> Span:
        """Zeros below and above what it reads of an axis of `size` voxels to make a span."""
        low, high = span
        if self.resize == "down":
            return 0, max(2 * high + 1 - size, 0)
        if self.resize == "scatter":
            return 0, 0  # it cuts instead
        if self.resize == "up":
            size = 2 * size
        return max(self.margin - low, 0), max(high + self.margin - size, 0)

    def flops(self, voxels: int) -> int:
        """Floating-point operations of its convolution for some voxels; a multiply-add is two."""
        weight: torch.Tensor = self.convolution.weight
        # A transposed one meets an eighth of its weights in each voxel that it makes.
        return 2 * voxels * weight.numel() // (8 if self.resize == "scatter" else 1)


def steps_of(*modules: nn.Module) -> list[Step]:
    """Modules of `layers`, in the order in which they run, as steps.

    Raises:
        TypeError: for a module that is none of `layers`, such as an attention block: it would need
            all of a volume at once.
    """
    steps: list[Step] = []
    pending: nn.GroupNorm | None = None
    for module in modules:
        here = len(steps)
        if isinstance(module, nn.GroupNorm):
            pending = module  # of the convolution that follows
        elif isinstance(module, Kernel):
            steps.append(Step(here, module.conv, pending))
            pending = None
        elif isinstance(module, Convolution):
            steps.append(Step(here, module.conv.conv, pending))
            pending = None
        elif isinstance(module, Upsample):
            steps.append(Step(here, module.conv.conv.conv, resize="up"))
        elif isinstance(module, TransposedUpsample):
            steps.append(Step(here, module.layer, resize="scatter"))
        elif isinstance(module, Downsample):
            kernel = module.conv.conv
            assert isinstance(kernel, Kernel)
            steps.append(Step(here, kernel.conv, resize="down"))
        elif isinstance(module, ResidualBlock):
            steps += _residual(module, here)
        else:
            msg = f"{type(module).__name__} cannot be run in pieces"
            raise TypeError(msg)
    return steps


def _residual(block: ResidualBlock, source: int) -> list[Step]:
    steps = [Step(source, block.conv1.conv.conv, block.norm1, is_activated=True)]
    added = source
    if isinstance(block.nin_shortcut, Convolution):
        # A map of its own: it can be made together with the first convolution, after which the
        # wider map that both read is not needed any more.
        steps.append(Step(source, block.nin_shortcut.conv.conv))
        added = source + 2
    second = Step(source + 1, block.conv2.conv.conv, block.norm2, is_activated=True, added=added)
    return [*steps, second]


def grids_of(steps: Sequence[Step], first: Grid) -> list[Grid]:
    """Voxels of every map along x, y and z, given those of the first."""
    grids = [first]
    for step in steps:
        grids.append(step.grid(grids[step.source]))
    return grids


def boxes_of(steps: Sequence[Step], grids: Sequence[Grid], wanted: Box) -> list[Box]:
    """What must be known of every map to make a box of the last: halos, layer by layer."""
    found: list[list[Box]] = [[] for _ in grids]
    found[-1].append(wanted)
    for number in reversed(range(len(steps))):
        step, box = steps[number], hull(found[number + 1])
        found[number + 1] = [box]
        spans = zip(box, grids[step.source], strict=True)
        x, y, z = (step.needs(span, size) for span, size in spans)
        found[step.source].append((x, y, z))
        if step.added is not None:
            found[step.added].append(box)
    return [hull(boxes) for boxes in found]


def flops_of(steps: Sequence[Step], boxes: Sequence[Box]) -> int:
    """Floating-point operations to make each of these boxes once."""
    total = 0
    for step, ((x0, x1), (y0, y1), (z0, z1)) in zip(steps, boxes[1:], strict=True):
        total += step.flops((x1 - x0) * (y1 - y0) * (z1 - z0))
    return total
