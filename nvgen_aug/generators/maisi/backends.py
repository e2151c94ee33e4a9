"""Backends: how the networks run on the device they are given.

On a processor, torch sends the convolutions of one small volume to a kernel that is three times
slower than oneDNN's, which it takes for larger inputs only. `use_onednn` asks for oneDNN always.
"""

from __future__ import annotations

from typing import final

import torch
from torch import nn


@final
class OneDnnConv3d(nn.Conv3d):
    """A convolution in fp32 that oneDNN computes whatever the size of its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        result: torch.Tensor = torch.ops.aten.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return result


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Put a network on a device, ready to infer and to do nothing else."""
    network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    network.requires_grad_(False)
    if device.type == "cpu":
        use_onednn(network)
    return network


def use_onednn(network: nn.Module) -> None:
    """Let oneDNN compute every convolution of a network that stays on the processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        # Only the class changes: tensors and their names stay where they are.
        if type(module) is nn.Conv3d and module.padding_mode == "zeros":
            module.__class__ = OneDnnConv3d
