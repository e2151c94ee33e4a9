"""Precision is chosen by device, and a convolution that computes wrongly is found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from nvgen_aug.errors import BackendError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.placement import check_convolution
from nvgen_aug.generators.maisi.placement import chosen_precision
from nvgen_aug.generators.maisi.placement import usable_device

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def test_a_gpu_computes_in_half_precision_and_a_processor_in_single() -> None:
    assert chosen_precision(None, GPU) == "fp16"
    assert chosen_precision(None, CPU) == "fp32"
    assert chosen_precision("bf16", GPU) == "bf16"


@pytest.mark.parametrize(
    ("precision", "device", "text"),
    [
        ("fp8", GPU, r"precision must be one of \('fp32', 'fp16', 'bf16'\), got 'fp8'"),
        ("fp16", CPU, "precision 'fp16' is for a GPU.*ask for 'fp32'"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(
    precision: str, device: torch.device, text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        chosen_precision(precision, device)


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_torch_lacks_is_refused_with_those_that_it_sees(name: str) -> None:
    with pytest.raises(SpecError, match=rf"device '{name}' cannot be used.*torch sees \['cpu'"):
        usable_device(name)
    assert usable_device("cpu") == CPU


def honest(x: torch.Tensor, weight: torch.Tensor, **arguments: Any) -> torch.Tensor:
    return functional.conv3d(x.float(), weight.float(), **arguments).to(x.dtype)


def wrong_when_strided(x: torch.Tensor, weight: torch.Tensor, **arguments: Any) -> torch.Tensor:
    return honest(x, weight, **arguments) * (0.5 if "stride" in arguments else 1.0)


def with_a_nan(x: torch.Tensor, weight: torch.Tensor, **arguments: Any) -> torch.Tensor:
    result = honest(x, weight, **arguments)
    result.view(-1)[7] = float("nan")
    return result


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_honest_convolution_in_half_precision_passes(precision: str) -> None:
    assert 0 < check_convolution(CPU, precision, honest) < 1e-2


@pytest.mark.parametrize("convolve", [wrong_when_strided, with_a_nan])
def test_a_wrong_convolution_is_refused_with_the_way_out(convolve: Any) -> None:
    with pytest.raises(BackendError, match=r"3D convolution in fp16 on cpu is off .*cuDNN 9\.15"):
        check_convolution(CPU, "fp16", convolve)
