"""What the tests of piecewise decoding share: narrow coders with random weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.piecewise.codec import Codec
from nvgen_aug.generators.maisi.piecewise.plan import Plan
from nvgen_aug.generators.maisi.piecewise.spans import Box
from nvgen_aug.generators.maisi.piecewise.spans import grid_of
from nvgen_aug.generators.maisi.placement import place
from tests.generators.tiny import randomized

WIDTHS, GROUPS = (4, 8, 16), 2
NORMS = 13


@cache
def network(*, is_double: bool = False) -> Autoencoder:
    made = Autoencoder(WIDTHS, GROUPS)
    randomized(made, seed=5)
    if is_double:
        return made.double()
    place(made, torch.device("cpu"))
    return made


def codec(*, is_double: bool = False) -> Codec:
    return Codec(network(is_double=is_double))


def drawn(*shape: int, seed: int = 0, is_double: bool = False) -> torch.Tensor:
    # Not of mean zero, so that statistics of parts differ from those of the whole.
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1.0, 1.0, shape[2])[:, None, None]
    values = torch.randn(shape, generator=generator) * (1.5 + ramp) + ramp
    return values.double() if is_double else values


def plan_for(
    coder: Codec, latent: torch.Tensor, name: str, planes: int | None, **options: Any
) -> Plan:
    planner = coder.decoder.planner
    box: Box = options.pop("box", None) or planner.everything(grid_of(latent))
    has_statistics = options.pop("has_statistics", name == "stream")
    plan = planner.rehearse(name, planes, grid_of(latent), box, has_statistics=has_statistics)
    assert plan is not None
    return plan


def relative_rms(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())
