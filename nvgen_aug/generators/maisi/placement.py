"""Placement: networks on their device, in the precision that they run in.

On a processor, torch sends the convolutions of one small volume to a kernel that is three times
slower than oneDNN's, which it takes for larger inputs only. `use_onednn` asks for oneDNN always.

On a GPU, half precision is the default, and some pairs of torch and cuDNN compute its three-
dimensional convolutions wrongly. `check_convolution` finds that out before any volume is made.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Final
from typing import final

import torch
from torch import nn
from torch.nn import functional

from ...errors import BackendError
from ...errors import SpecError
from .fused_norm import fuse_norms

PRECISIONS: Final[Mapping[str, torch.dtype]] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

# Half precision keeps 8 to 11 bits: an honest kernel is off by a tenth of this.
_CONVOLUTION_TOLERANCE: Final = 2e-2


@final
class OneDnnConv3d(nn.Conv3d):
    """A convolution that oneDNN computes whatever the size of its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        # Compilers choose for themselves; exporters and fake tensors know torch's operator only.
        is_plain = type(input) is torch.Tensor and not torch.compiler.is_compiling()
        if not is_plain or input.dtype != torch.float32:
            return super().forward(input)
        result: torch.Tensor = torch.ops.aten.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return result


def usable_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        SpecError: There is no such kind of device, or torch sees none of it here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        seen = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        reason = str(error).partition("\n")[0]
        msg = (
            f"device {name!r} cannot be used here ({reason}); torch sees {['cpu', *seen]}, and "
            "`nvgen-aug doctor` says what else is missing"
        )
        raise SpecError(msg) from error
    return device


def chosen_precision(precision: str | None, device: torch.device) -> str:
    """The name of a precision; `None` is fp16 on a GPU and fp32 on a processor.

    Raises:
        SpecError: There is no such precision.
    """
    if precision is None:
        return "fp16" if device.type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        msg = f"precision must be one of {tuple(PRECISIONS)}, got {precision!r}"
        raise SpecError(msg)
    if device.type == "cpu" and precision != "fp32":
        msg = (
            f"precision {precision!r} is for a GPU: on a processor torch lacks three-dimensional "
            "pooling in it; ask for 'fp32' there"
        )
        raise SpecError(msg)
    return precision


def place(network: nn.Module, device: torch.device, precision: str = "fp32") -> nn.Module:
    """Put a network on a device, ready to infer and to do nothing else."""
    network.to(device, PRECISIONS[precision], memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    network.requires_grad_(False)
    if device.type == "cpu" and precision == "fp32":
        use_onednn(network)
    if device.type == "cuda":
        fuse_norms(network)
    return network


def use_onednn(network: nn.Module) -> None:
    """Let oneDNN compute every convolution of a network that stays on the processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        # Only the class changes: tensors and their names stay where they are.
        if type(module) is nn.Conv3d and module.padding_mode == "zeros":
            module.__class__ = OneDnnConv3d


def check_convolution(
    device: torch.device,
    precision: str,
    convolve: Callable[..., torch.Tensor] = functional.conv3d,
) -> float:
    """The relative RMS error of a convolution in half precision against fp32 on the processor.

    Args:
        device: Where it is computed.
        precision: `fp16` or `bf16`.
        convolve: What computes it, called as `torch.nn.functional.conv3d`.

    Raises:
        BackendError: The error is larger than half precision explains.
    """
    worst = 0.0
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    # A wide kernel and a strided one: the faulty versions differ in which they get wrong.
    for channels, size, arguments in ((64, 12, {"padding": 1}), (32, 9, {"stride": 2})):
        generator = torch.Generator().manual_seed(channels)
        x = torch.randn(1, channels, size, size, size, generator=generator)
        weight = torch.randn(channels, channels, 3, 3, 3, generator=generator)
        weight /= (27 * channels) ** 0.5
        expected = functional.conv3d(x, weight, **arguments)  # type: ignore[call-overload]
        half: dict[str, Any] = {"device": device, "dtype": PRECISIONS[precision]}
        found = convolve(
            x.to(**half).contiguous(memory_format=torch.channels_last_3d),
            weight.to(**half).contiguous(memory_format=torch.channels_last_3d),
            **arguments,
        )
        error = relative_error(found, expected)
        if not error <= _CONVOLUTION_TOLERANCE:  # so that NaN is refused as well
            msg = (
                f"a 3D convolution in {precision} on {device} is off by {error:.1%} of its size, "
                f"expected at most {_CONVOLUTION_TOLERANCE:.0%}; torch {torch.__version__} with "
                f"cuDNN {cudnn or 'none'} computes it wrongly: ask for precision='fp32', or "
                "install a torch that brings cuDNN 9.15 or later"
            )
            raise BackendError(msg)
        worst = max(worst, error)
    return worst


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """RMS of the difference over the RMS of what was expected; NaN if anything is not finite."""
    wanted = expected.detach().cpu().double()
    away = found.detach().cpu().double() - wanted
    return float(away.norm() / wanted.norm().clamp_min(1e-12))
