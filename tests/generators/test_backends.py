"""A backend is compared with torch before its results are used, at every shape."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import final

import pytest
import torch
from torch import nn

from nvgen_aug import assembly
from nvgen_aug.errors import BackendError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.backends import BACKENDS
from nvgen_aug.generators.maisi.backends import BackedNetwork
from nvgen_aug.generators.maisi.backends import Backend
from nvgen_aug.generators.maisi.backends import Compiled
from nvgen_aug.generators.maisi.backends import Eager
from nvgen_aug.generators.maisi.backends import Run
from nvgen_aug.generators.maisi.backends import open_backend
from nvgen_aug.generators.maisi.engines.store import EngineStore
from nvgen_aug.generators.maisi.placement import relative_error


@final
class Scripted(Backend):
    """Runs what it is told to run, and counts how often it was prepared."""

    name = "scripted"

    def __init__(self, make: Callable[[nn.Module], Run]) -> None:
        self.make = make
        self.prepared: list[tuple[int, ...]] = []

    def prepare(self, part: str, network: nn.Module, inputs: Sequence[torch.Tensor]) -> Run:
        self.prepared.append(tuple(inputs[0].shape))
        return self.make(network)


def off_by(share: float) -> Callable[[nn.Module], Run]:
    return lambda network: lambda x: network(x) * (1 + share)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 4).requires_grad_(False)


def test_a_shape_is_prepared_once_and_another_shape_anew(network: nn.Module) -> None:
    backend = Scripted(off_by(0))
    backed = BackedNetwork("flow", network, backend, "fp32")
    for rows in (2, 2, 3, 2, 3):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(backed(x), network(x))
    assert backend.prepared == [(2, 4), (3, 4)]


@pytest.mark.parametrize(("share", "precision"), [(9e-4, "fp32"), (9e-3, "fp16"), (9e-3, "bf16")])
def test_a_result_within_the_limit_of_the_precision_is_used(
    network: nn.Module, share: float, precision: str
) -> None:
    x = torch.randn(2, 4)
    found = BackedNetwork("flow", network, Scripted(off_by(share)), precision)(x)
    torch.testing.assert_close(found, network(x) * (1 + share))


@pytest.mark.parametrize(
    ("share", "precision"), [(2e-3, "fp32"), (2e-2, "fp16"), (2e-2, "bf16"), (float("nan"), "fp16")]
)
def test_a_backend_that_gives_something_else_is_refused(
    network: nn.Module, share: float, precision: str
) -> None:
    backed = BackedNetwork("flow", network, Scripted(off_by(share)), precision)
    with pytest.raises(BackendError, match=r"`scripted` gives another `flow`.* at most 0\.0"):
        backed(torch.randn(2, 4))


def deep(layers: int = 100) -> nn.Module:
    """A network in bfloat16 in which rounding adds up, as in a UNet."""
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32)) for _ in range(layers)]
    return nn.Sequential(*made).to(torch.bfloat16).requires_grad_(False)


def in_float32(network: nn.Module) -> Run:
    exact = copy.deepcopy(network).float()
    return lambda x: exact(x.float()).to(torch.bfloat16)


def test_in_bfloat16_another_order_of_rounding_is_no_fault() -> None:
    network, x = deep(), torch.randn(8, 32).to(torch.bfloat16)
    found = BackedNetwork("flow", network, Scripted(in_float32), "bf16")(x)
    assert relative_error(found, network(x)) > 1e-2  # farther than the limit, and nearer the truth


@pytest.mark.parametrize("share", [0.1, float("nan")])
def test_in_bfloat16_what_is_farther_from_float32_than_torch_is_refused(share: float) -> None:
    network, x = deep(), torch.randn(8, 32).to(torch.bfloat16)
    backed = BackedNetwork("flow", network, Scripted(off_by(share)), "bf16")
    with pytest.raises(BackendError, match="gives another `flow` than torch does"):
        backed(x)


def test_each_of_several_results_is_compared(network: nn.Module) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return network(x), 2 * network(x)

    def second_wrong(twice: nn.Module) -> Run:
        return lambda x: (twice(x)[0], twice(x)[0])

    with pytest.raises(BackendError, match=r"relative error 0\.5"):
        BackedNetwork("control", Twice(), Scripted(second_wrong), "fp32")(torch.randn(2, 4))


def test_a_later_shape_that_fails_runs_by_torch_with_a_word_about_it(
    network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong_for_three(network: nn.Module) -> Run:
        return lambda x: network(x) * (2 if len(x) == 3 else 1)

    backed = BackedNetwork("flow", network, Scripted(wrong_for_three), "fp32")
    backed(torch.randn(2, 4))
    x = torch.randn(3, 4)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(backed(x), network(x))
    assert "flow runs by torch's own operators for [(3, 4)]" in caplog.text
    assert "relative error 1" in caplog.text


def test_eager_is_the_network_itself_and_nothing_is_computed_twice(network: nn.Module) -> None:
    calls: list[int] = []
    network.register_forward_hook(lambda *_: calls.append(1))
    BackedNetwork("flow", network, Eager(), "fp32")(torch.randn(2, 4))
    assert len(calls) == 1


@pytest.mark.slow
def test_a_compiled_network_gives_what_torch_gives() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU())
    network.requires_grad_(False)
    backed = BackedNetwork("flow", network, Compiled(), "fp32")
    x = torch.randn(1, 2, 4, 4, 4)
    torch.testing.assert_close(backed(x), network(x), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_is_named_with_the_way_out() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(BackendError, match=r"cannot make `flow` ready on cpu.*use backend='eager'"):
        BackedNetwork("flow", Branching(), Compiled(), "fp32")(torch.ones(2))


def opened(name: str, folder: Path) -> Backend:
    arguments: dict[str, Any] = {"variant": "tiny-test", "network": 64 * "0", "precision": "fp16"}
    return open_backend(name, device=torch.device("cpu"), store=EngineStore(folder), **arguments)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_engines_are_not_run_on_a_processor(name: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=rf"`{name}` runs on a GPU, got device 'cpu'"):
        opened(name, tmp_path)


def test_an_unknown_backend_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no backend `compield`; did you mean `compiled`"):
        opened("compield", tmp_path)


def test_the_assembly_knows_the_backends_without_importing_torch() -> None:
    assert assembly.BACKENDS == BACKENDS
