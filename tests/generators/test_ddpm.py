"""The chain of a DDPM, whole and with fewer links."""

from __future__ import annotations

import pytest
import torch

from nvgen_aug.generators.maisi.ddpm import chain
from nvgen_aug.generators.maisi.ddpm import walk
from nvgen_aug.generators.maisi.flow import draw_noise
from tests.generators.schedulers import ddpm_scheduler


def test_the_whole_chain_is_that_of_monais_scheduler() -> None:
    monai, plan = ddpm_scheduler(1000), chain(1000)
    assert plan.times == tuple(range(999, -1, -1))
    x, estimate = draw_noise((1, 1, 4, 4, 4), 1), draw_noise((1, 1, 4, 4, 4), 2)
    for k in (0, 1, 500, 998, 999):
        noise = torch.Generator().manual_seed(3)
        wanted, _ = monai.step(estimate, 999 - k, x, noise)
        fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
        found = plan.keep[k] * x + plan.take[k] * estimate + plan.add[k] * fresh
        # MONAI's coefficients are in single precision, and cancel at the ends.
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("evaluations", [1, 2, 10, 100, 1000])
def test_the_noise_that_was_added_is_taken_away_whole(evaluations: int) -> None:
    data, noise = draw_noise((1, 1, 6, 6, 6), 1), draw_noise((1, 1, 6, 6, 6), 2)
    signal = ddpm_scheduler(1000).alphas_cumprod.double()
    plan = chain(evaluations)

    def estimate(x: torch.Tensor, k: int) -> torch.Tensor:
        now = float(signal[int(plan.times[k])])
        return (x - now**0.5 * data) / (1 - now) ** 0.5

    found = walk(estimate, noise, plan, seed=3)
    torch.testing.assert_close(found, data, rtol=1e-3, atol=1e-3)


def test_the_last_link_adds_nothing_and_all_others_do() -> None:
    plan = chain(10)
    assert plan.add[-1] == 0
    assert min(plan.add[:-1]) > 0
    assert plan.times[0] == 999
    assert plan.times[-1] == 0


def test_the_noise_of_the_links_depends_on_the_seed_alone() -> None:
    start, plan = draw_noise((1, 1, 4, 4, 4), 1), chain(3)

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed())
        return walk(lambda x, k: torch.zeros_like(x), start, plan, seed)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
