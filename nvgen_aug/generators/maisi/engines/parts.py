"""Parts: the networks of a variant that are run by a backend, with what they are called with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from typing import final

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from ..networks import Autoencoder
from ..placement import PRECISIONS
from ..velocity import ControlStep
from ..velocity import FlowStep

Network = TypeVar("Network", bound=nn.Module)

PARTS = ("control", "flow", "decoder")


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A network and inputs of the shapes that a volume of one size gives it.

    Attributes:
        name: `control`, `flow` or `decoder`.
        network: In evaluation mode.
        inputs: Random; only shapes and types count.
    """

    name: str
    network: nn.Module
    inputs: tuple[torch.Tensor, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the inputs."""
        return tuple(tuple(tensor.shape) for tensor in self.inputs)


@final
class WholeDecoder(nn.Module):
    """A latent to its image and the statistics of all norms, in one graph."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.autoencoder.decode_with_statistics(latent)


def parts_of(
    control: ControlStep | None,
    flow: FlowStep,
    autoencoder: Autoencoder,
    *,
    size: Sequence[int],
    precision: str,
    copies: int = 1,
    compression: int = 4,
) -> list[Part]:
    """The parts of a variant for volumes of one size, without computing anything.

    Args:
        control, flow, autoencoder: The networks; in another precision they are copied.
        size: Voxels of the image along x, y, z.
        precision: As `placement` names them.
        copies: 2 for evaluations with guidance.
        compression: Image voxels for one latent voxel along an axis.
    """
    dtype = PRECISIONS[precision]
    control = None if control is None else _in_type(control, dtype)
    flow, autoencoder = _in_type(flow, dtype), _in_type(autoencoder, dtype)
    latent = autoencoder.post_quant_conv.conv.in_channels
    small = [n // compression for n in size]
    x = torch.randn(copies, latent, *small, dtype=dtype)
    parts: list[Part] = []
    residuals: tuple[torch.Tensor, ...] = ()
    if control is not None:
        told = torch.randn(copies, _embedding(control), dtype=dtype)
        net = control.network
        width = net.conv_in.conv.out_channels  # type: ignore[union-attr]
        features = torch.randn(copies, int(width), *small, dtype=dtype)  # type: ignore[arg-type]
        parts.append(Part("control", control, (x, told, features)))
        residuals = _as_given_by(control, parts[-1].inputs)
    told = torch.randn(copies, _embedding(flow), dtype=dtype)
    parts.append(Part("flow", flow, (x, told, *residuals)))
    parts.append(Part("decoder", WholeDecoder(autoencoder).eval(), (x[:1],)))
    return parts


def _in_type(network: Network, dtype: torch.dtype) -> Network:
    if next(network.parameters()).dtype == dtype:
        return network
    return copy.deepcopy(network).to(dtype)


def _embedding(step: nn.Module) -> int:
    """How many numbers the residual blocks are told about time, modality and spacing."""
    for name, module in step.named_modules():
        if name.endswith("time_emb_proj"):
            assert isinstance(module, nn.Linear)
            return module.in_features
    raise AssertionError(step)


def _as_given_by(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        shapes = network(*(mode.from_tensor(tensor) for tensor in inputs))
    return tuple(torch.randn(tuple(s.shape), dtype=s.dtype) for s in shapes)
