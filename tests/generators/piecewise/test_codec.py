"""Slabs, crops and recomputation give what the undivided networks give."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nvgen_aug.errors import OutOfMemory
from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.piecewise import arithmetic
from nvgen_aug.generators.maisi.piecewise import steps as steps_module
from nvgen_aug.generators.maisi.piecewise.codec import Codec
from nvgen_aug.generators.maisi.piecewise.memory import free_bytes
from nvgen_aug.generators.maisi.piecewise.spans import Box
from nvgen_aug.generators.maisi.piecewise.spans import Span
from nvgen_aug.generators.maisi.piecewise.spans import grid_of
from nvgen_aug.generators.maisi.piecewise.spans import slices
from nvgen_aug.generators.maisi.piecewise.spans import whole
from tests.generators.piecewise.coders import GROUPS
from tests.generators.piecewise.coders import NORMS
from tests.generators.piecewise.coders import codec
from tests.generators.piecewise.coders import drawn
from tests.generators.piecewise.coders import network
from tests.generators.piecewise.coders import plan_for
from tests.generators.piecewise.coders import relative_rms

WAYS = [("slabs", 1), ("slabs", 3), ("slabs", 8), ("recompute", 4), ("scan", 4)]
TOLERANCE = 1e-5  # relative RMS, single precision


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int]:
    x, y, z = (draw(st.integers(1, most)) for most in (24, 5, 4))
    return x, y, z


@st.composite
def boxes_in(draw: st.DrawFn, grid: tuple[int, int, int]) -> Box:
    spans: list[Span] = []
    for size in grid:
        low = draw(st.integers(0, 4 * size - 1))
        spans.append((low, draw(st.integers(low + 1, 4 * size))))
    return spans[0], spans[1], spans[2]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_crop_is_that_part_of_the_whole_by_any_plan(data: st.DataObject) -> None:
    grid = data.draw(grids())
    box = data.draw(boxes_in(grid))
    name, planes = data.draw(st.sampled_from([("whole", None), ("slabs", 3), ("stream", 5)]))
    coder, latent = codec(), drawn(1, 4, *grid, seed=sum(grid))
    decoded = coder.decode(latent)
    plan = plan_for(coder, latent, name, planes, box=box, has_statistics=True)
    part = coder.decode(latent, box=box, statistics=decoded.statistics, plan=plan)
    expected = decoded.image[slices(box, whole(grid_of(decoded.image)))]
    assert part.image.shape == expected.shape
    rms = float(decoded.image.square().mean().sqrt())
    assert float((part.image - expected).square().mean().sqrt()) / rms < TOLERANCE


@given(grids(), st.sampled_from(WAYS))
@settings(max_examples=10, deadline=None)
def test_every_plan_gives_the_image_of_the_undivided_network(
    grid: tuple[int, int, int], way: tuple[str, int]
) -> None:
    latent = drawn(1, 4, *grid, seed=sum(grid), is_double=True)
    coder = codec(is_double=True)
    decoded = coder.decode(latent, plan=plan_for(coder, latent, *way))
    with torch.inference_mode():
        expected = network(is_double=True).decode(latent)
    # Statistics are rounded to single precision, everything else is in double.
    assert relative_rms(decoded.image, expected) < 1e-6


@pytest.mark.parametrize("way", WAYS)
def test_the_plan_changes_nothing_in_single_precision(way: tuple[str, int]) -> None:
    coder, latent = codec(), drawn(1, 4, 13, 5, 3)
    first = coder.decode(latent, plan=plan_for(coder, latent, "whole", None))
    other = coder.decode(latent, plan=plan_for(coder, latent, *way))
    assert relative_rms(other.image, first.image) < TOLERANCE
    torch.testing.assert_close(other.statistics, first.statistics, rtol=1e-5, atol=1e-6)


def test_statistics_are_mean_and_biased_variance_of_what_each_norm_saw() -> None:
    seen: list[torch.Tensor] = []
    net = Autoencoder((4, 8, 16), GROUPS)
    net.load_state_dict(network().state_dict())
    for norm in net.decoder.norms():
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    latent = drawn(1, 4, 6, 5, 4)
    with torch.inference_mode():
        net.decode(latent)
    coder = codec()
    for way in (("whole", None), ("slabs", 2)):
        statistics = coder.decode(latent, plan=plan_for(coder, latent, *way)).statistics
        assert statistics.shape == (NORMS, GROUPS, 2)
        assert statistics.dtype == torch.float32
        for row, x in zip(statistics.double(), seen, strict=True):
            grouped = x.reshape(GROUPS, -1)
            torch.testing.assert_close(row[:, 0], grouped.mean(1), rtol=1e-4, atol=1e-5)
            variance = grouped.var(1, correction=0)
            torch.testing.assert_close(row[:, 1], variance, rtol=1e-4, atol=1e-5)


def test_statistics_of_slabs_keep_the_variance_between_the_slabs() -> None:
    # The latent brightens along x, so every slab has another mean.
    coder, latent = codec(), drawn(1, 4, 16, 4, 4)
    pooled = coder.decode(latent, plan=plan_for(coder, latent, "slabs", 1)).statistics
    parts = [coder.decode(part).statistics for part in latent.split(1, dim=2)]
    averaged = torch.stack(parts)[..., 1].mean(0)
    assert float((averaged[0] / pooled[0, :, 1]).max()) < 0.9


@pytest.mark.parametrize(("halo", "is_exact"), [(10, True), (9, False)])
def test_a_halo_of_ten_latent_voxels_suffices_and_nine_do_not(halo: int, is_exact: bool) -> None:
    # In double precision, because what the outermost ring of the halo adds is tiny.
    coder = codec(is_double=True)
    latent = drawn(1, 4, 25, 2, 2, is_double=True)
    decoded = coder.decode(latent)
    block = latent[:, :, 12 - halo : 13 + halo]
    part = coder.decode(block, statistics=decoded.statistics).image
    difference = (part[:, :, 4 * halo : 4 * halo + 4] - decoded.image[:, :, 48:52]).abs().max()
    assert (float(difference) < 1e-13) == is_exact


def test_a_crop_reads_ten_latent_voxels_around_it_and_no_more() -> None:
    steps = steps_module.steps_of(network().post_quant_conv, *network().decoder.blocks)
    grids_ = steps_module.grids_of(steps, (64, 64, 64))
    box = ((128, 132), (128, 132), (0, 4))
    latent_box = steps_module.boxes_of(steps, grids_, box)[0]
    assert latent_box == ((22, 43), (22, 43), (0, 11))


def full_width() -> Codec:
    with torch.device("meta"):
        return Codec(Autoencoder((64, 128, 256), 32), free=lambda device: None)


def counted(coder: Codec, grid: tuple[int, int, int], **options: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        coder.decode(torch.empty(1, 4, *grid, device="meta"), **options)
    return counter.get_total_flops()


def test_slabs_of_the_network_of_full_width_do_the_work_of_the_undivided_network() -> None:
    coder, latent = full_width(), torch.empty(1, 4, 16, 16, 16, device="meta")
    with FlopCounterMode(display=False) as counter:
        coder.network.decode(latent)
    plain = counter.get_total_flops()
    assert plain == pytest.approx(0.2071e9 * 16**3, rel=1e-3)
    plan = plan_for(coder, latent, "slabs", 16)
    assert counted(coder, (16, 16, 16), plan=plan) == plain == plan.cost.flops
    again = plan_for(coder, latent, "recompute", 16)
    assert counted(coder, (16, 16, 16), plan=again) == again.cost.flops
    assert again.cost.flops / plain == pytest.approx(1.75, abs=0.01)


@pytest.mark.parametrize(
    ("edge", "teraflops"), [(64, 1.86), (96, 4.85), (128, 10.1), (160, 18.2), (192, 29.8)]
)
def test_the_work_of_a_crop_is_that_of_halos_trimmed_layer_by_layer(
    edge: int, teraflops: float
) -> None:
    coder, grid = full_width(), (128, 128, 128)
    low = (512 - edge) // 2 // 4 * 4
    box = ((low, low + edge),) * 3
    statistics = torch.empty(NORMS, 32, 2, device="meta")
    work = counted(coder, grid, box=box, statistics=statistics)
    assert work / 1e12 == pytest.approx(teraflops, rel=0.02)
    assert work == coder.decoder.planner.flops(grid, box)


def test_no_tensor_of_a_slab_reaches_two_to_the_31_elements_where_the_whole_would() -> None:
    planner = full_width().decoder.planner
    grid = (128, 128, 128)
    box = planner.everything(grid)
    assert planner.rehearse("whole", None, grid, box, has_statistics=False) is None
    slabs = planner.rehearse("slabs", 16, grid, box, has_statistics=False)
    assert slabs is not None
    assert slabs.cost.most_elements < 2**31


def test_memory_decides_between_whole_slabs_and_recomputation() -> None:
    planner = full_width().decoder.planner
    grid, box = (64, 64, 16), ((0, 256), (0, 256), (0, 64))
    plans = list(planner.candidates(grid, box, has_statistics=False))
    names = list(dict.fromkeys(plan.name for plan in plans))
    assert names == ["whole", "slabs", "recompute", "scan"]
    assert min(p.needed_bytes for p in plans if p.name == "scan") < min(
        p.needed_bytes for p in plans if p.name == "slabs"
    )
    known = list(planner.candidates(grid, box, has_statistics=True))
    assert "stream" in {plan.name for plan in known}
    assert len({plan.cost.flops for plan in known}) == 1  # nothing is ever done twice


def test_a_processor_takes_a_large_volume_in_slabs_and_a_small_one_whole() -> None:
    planner = full_width().decoder.planner
    large, small = (16, 16, 16), (4, 4, 4)
    for grid, expected in ((large, ("slabs", 16)), (small, ("whole", None))):
        box = planner.everything(grid)
        best = next(planner.candidates(grid, box, has_statistics=False, is_processor=True))
        assert (best.name, best.planes) == expected
        elsewhere = next(planner.candidates(grid, box, has_statistics=False))
        assert elsewhere.name == "whole"
        assert best.cost.flops == elsewhere.cost.flops


def test_what_memory_allows_is_what_runs() -> None:
    latent = drawn(1, 4, 16, 8, 8)
    everything = Codec(network(), free=lambda device: None).decode(latent)
    assert everything.plan.name == "whole"
    bound = everything.plan.needed_bytes - 1
    less = Codec(network(), free=lambda device: bound).decode(latent)
    assert less.plan.name == "slabs"
    assert less.plan.needed_bytes <= bound
    assert relative_rms(less.image, everything.image) < TOLERANCE


def test_too_little_memory_for_any_plan_is_said_with_needed_and_free_mebibytes() -> None:
    coder = Codec(network(), free=lambda device: 1 << 20)
    with pytest.raises(OutOfMemory, match=r"needs \d+ MiB .*`cpu`.* 1 MiB are free"):
        coder.decode(drawn(1, 4, 16, 16, 16))


class Short:
    """Fails as torch does when memory runs out, in the first so many convolutions asked for."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.real = arithmetic.convolve

    def __call__(self, *arguments: Any) -> torch.Tensor:
        if arguments[1].shape[1] == 16 and self.failures > 0:
            self.failures -= 1
            msg = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
            raise RuntimeError(msg)
        return self.real(*arguments)


def test_when_memory_runs_out_the_next_plan_is_tried_once_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    latent = drawn(1, 4, 16, 8, 8)
    expected = codec().decode(latent)
    monkeypatch.setattr(arithmetic, "convolve", Short(1))
    decoded = codec().decode(latent)
    assert decoded.plan.needed_bytes < expected.plan.needed_bytes
    assert relative_rms(decoded.image, expected.image) < TOLERANCE
    assert "memory ran out for decode by whole" in caplog.text


def test_when_memory_runs_out_twice_it_is_an_error_with_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arithmetic, "convolve", Short(2))
    with pytest.raises(OutOfMemory, match=r"decode needs [\d,]+ MiB on `cpu`"):
        codec().decode(drawn(1, 4, 16, 8, 8))


def test_after_that_less_memory_can_be_asked_for_until_no_plan_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coder, latent = codec(), drawn(1, 4, 16, 4, 4)
    first = coder.decode(latent)
    assert not coder.decoder.use_less_memory()  # nothing has failed
    monkeypatch.setattr(arithmetic, "convolve", Short(2))
    with pytest.raises(OutOfMemory):
        coder.decode(latent)
    assert coder.decoder.use_less_memory()
    decoded = coder.decode(latent)
    assert decoded.plan.needed_bytes < first.plan.needed_bytes
    assert relative_rms(decoded.image, first.image) < TOLERANCE
    monkeypatch.setattr(arithmetic, "convolve", Short(10**6))
    for _ in range(20):
        with pytest.raises(OutOfMemory):
            coder.decode(latent)
        if not coder.decoder.use_less_memory():
            return
    raise AssertionError


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> torch.Tensor:
        msg = "expected scalar type Float"
        raise RuntimeError(msg)

    monkeypatch.setattr(arithmetic, "convolve", broken)
    with pytest.raises(RuntimeError, match="scalar type"):
        codec().decode(drawn(1, 4, 4, 4, 4))


def test_in_half_precision_statistics_and_scales_stay_in_single() -> None:
    half = Autoencoder((4, 8, 16), GROUPS).eval()
    half.load_state_dict(network().state_dict())
    coder, latent = Codec(half.bfloat16()), drawn(1, 4, 8, 4, 4)
    decoded = coder.decode(latent, plan=plan_for(coder, latent, "slabs", 8))
    assert decoded.image.dtype == torch.bfloat16
    assert decoded.statistics.dtype == torch.float32
    assert relative_rms(decoded.image.float(), codec().decode(latent).image) < 0.05


def test_free_memory_is_more_than_nothing_and_less_than_a_petabyte() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or 1 << 20 < free < 1 << 50


def test_the_one_graph_that_engines_are_built_of_gives_the_same_image_and_statistics() -> None:
    latent = drawn(1, 4, 6, 5, 4)
    with torch.inference_mode():
        image, statistics = network().decode_with_statistics(latent)
    decoded = codec().decode(latent)
    torch.testing.assert_close(decoded.image, image, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(decoded.statistics, statistics, rtol=1e-4, atol=1e-5)


def test_progress_is_told_before_every_step() -> None:
    told: list[None] = []
    coder = Codec(network(), progress=lambda: told.append(None))
    latent = drawn(1, 4, 4, 3, 3)
    coder.decode(latent, plan=plan_for(coder, latent, "whole", None))
    assert len(told) == 19  # convolutions, two of them shortcuts


def test_a_box_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="statistics of its volume"):
        codec().decode(drawn(1, 4, 4, 4, 4), box=((0, 4), (0, 4), (0, 4)))


def test_statistics_of_too_few_norms_are_refused() -> None:
    coder, latent = codec(), drawn(1, 4, 4, 4, 4)
    statistics = coder.decode(latent).statistics
    with pytest.raises(ValueError, match="of 13 norms, got 12"):
        coder.decode(latent, statistics=statistics[:12])


@given(st.tuples(*[st.integers(1, 3)] * 3), st.sampled_from(["whole", "slabs", "recompute"]))
@settings(max_examples=6, deadline=None)
def test_every_plan_encodes_as_the_undivided_network(grid: tuple[int, ...], name: str) -> None:
    x, y, z = (4 * n for n in grid)
    image = drawn(2, 1, x, y, z, is_double=True)
    coder = codec(is_double=True)
    planner = coder.encoder.planner
    planes = None if name == "whole" else 2
    everything = planner.everything((x, y, z))
    plan = planner.rehearse(name, planes, (x, y, z), everything, has_statistics=False)
    with torch.inference_mode():
        expected = network(is_double=True).encode(image)
    for got, wanted in zip(coder.encode(image, plan=plan), expected, strict=True):
        assert got.shape == wanted.shape
        assert relative_rms(got, wanted) < 1e-6


def test_memory_of_a_rehearsal_is_that_of_the_tensors_that_live() -> None:
    # Storage, counted as it is made and let go, against what the planner foresaw.
    coder, latent = codec(), drawn(1, 4, 16, 8, 8)
    peaks = {}
    for way in (("whole", None), ("slabs", 8), ("recompute", 8)):
        plan = plan_for(coder, latent, *way)
        with torch.profiler.profile(profile_memory=True) as profiled:
            coder.decode(latent, plan=plan)
        held = peak = 0
        for event in profiled.profiler.kineto_results.events():  # type: ignore[union-attr]
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
        peaks[way] = (peak, plan.cost.peak_bytes)
        assert 0.7 * plan.cost.peak_bytes < peak < plan.needed_bytes
    assert peaks["slabs", 8][0] < 0.7 * peaks["whole", None][0]
