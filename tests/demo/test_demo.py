"""The demo from beginning to end, on phantoms: two runs of few steps, and the same again."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nvgen_aug.demo.fit import segmenter
from nvgen_aug.demo.outcome import Outcome
from nvgen_aug.demo.settings import Settings
from nvgen_aug.demo.story import run_demo
from nvgen_aug.demo.talk import KeptTalk
from nvgen_aug.demo.task import Task
from nvgen_aug.errors import DataError
from nvgen_aug.errors import RatioError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator


@dataclass
class Told:
    """A demo and what it said."""

    outcome: Outcome
    lines: list[str]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(out=tmp_path_factory.mktemp("demo"), variant="phantom", quick=True)


@pytest.fixture(scope="module")
def first(settings: Settings) -> Told:
    """With an empty cache, and a worker."""
    talk = KeptTalk()
    return Told(run_demo(settings, talk), talk.lines)


@pytest.fixture(scope="module")
def second(settings: Settings, first: Told) -> Told:
    """With the cache that the first has filled, and without workers."""
    talk = KeptTalk()
    return Told(run_demo(replace(settings, workers=0), talk), talk.lines)


def test_both_runs_make_the_same_number_of_steps(first: Told) -> None:
    real, blended = first.outcome.arms
    assert real.steps == blended.steps == first.outcome.settings.schedule.steps
    assert len(real.epochs) == len(blended.epochs)


def test_both_runs_begin_with_the_same_weights(first: Told) -> None:
    task = first.outcome.task
    one, other = (segmenter(task, seed=0).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_both_runs_see_the_real_cases_in_the_same_order(first: Told) -> None:
    real, blended = first.outcome.arms
    assert blended.real_order == real.real_order[: len(blended.real_order)]


def test_the_share_is_delivered_to_less_than_a_sample(first: Told) -> None:
    real, blended = first.outcome.arms
    samples = sum(epoch.samples for epoch in blended.epochs)
    assert abs(len(blended.volumes) - 0.3 * samples) < 1
    assert not real.volumes


def test_no_volume_is_generated_that_the_run_does_not_use(first: Told) -> None:
    assert first.outcome.supply.generated == first.outcome.supply.distinct > 0


def test_demand_and_supply_are_stated(first: Told) -> None:
    (line,) = [line for line in first.lines if line.startswith("demand")]
    assert "volumes/s, supply" in line


def test_phantoms_are_called_phantoms(first: Told) -> None:
    assert any("not patients: they are ellipsoids" in line for line in first.lines)


def test_a_report_a_record_and_a_picture_are_written(first: Told, settings: Settings) -> None:
    for name in ("report.html", "report.json", "real-and-synthetic.png"):
        assert (settings.out / name).stat().st_size > 1000


def test_a_second_run_generates_nothing_and_says_so(second: Told) -> None:
    assert second.outcome.supply.generated == 0
    assert second.outcome.supply.from_cache == second.outcome.supply.distinct
    assert any("nothing was generated" in line for line in second.lines)


def test_a_second_run_without_workers_gives_the_same_curves(first: Told, second: Told) -> None:
    for one, other in zip(first.outcome.arms, second.outcome.arms, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-3)
        assert one.volumes == other.volumes


def test_own_scans_are_trained_on_with_the_phantom(decathlon: Path, tmp_path: Path) -> None:
    talk = KeptTalk()
    settings = Settings(
        out=tmp_path / "out", variant="phantom", data=decathlon, quick=True, steps=2, workers=0
    )
    outcome = run_demo(settings, talk)
    assert outcome.subjects.kind == "scan"
    assert outcome.task.names == ("body", "organ")
    assert any("Task99_Box" in line for line in talk.lines)
    assert not any("share one template" in text for text in outcome.caveats())


def test_a_share_of_zero_trains_on_real_volumes_twice(tmp_path: Path) -> None:
    settings = Settings(out=tmp_path, variant="phantom", ratio=0, quick=True, steps=2, workers=0)
    outcome = run_demo(settings, KeptTalk())
    assert outcome.supply.draws == outcome.supply.generated == 0
    assert outcome.arms[0].losses == outcome.arms[1].losses
    assert (tmp_path / "report.html").exists()


def test_a_share_that_is_none_is_refused_before_anything_is_done() -> None:
    with pytest.raises(RatioError, match=r"did you mean 0\.3"):
        Settings(ratio=30)


def test_labels_without_data_are_refused() -> None:
    with pytest.raises(DataError, match="needs --data DIR"):
        Settings(labels=("lesion=1",))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run_demo(Settings(out=tmp_path / "file" / "out", variant="phantom"), KeptTalk())


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    settings = Settings(out=tmp_path, variant="phantom", ratio=0, quick=True, steps=1, workers=0)
    with pytest.raises(DataError, match=r"the report cannot be written to --out .* same command"):
        run_demo(settings, KeptTalk())


def test_a_device_that_is_not_there_is_said_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--device potato cannot be used here .*; choose cpu"):
        run_demo(Settings(out=tmp_path / "out", variant="phantom", device="potato"), KeptTalk())
    assert not (tmp_path / "out").exists()


def test_an_unknown_generator_comes_with_close_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean `phantom`"):
        run_demo(Settings(out=tmp_path, variant="fantom"), KeptTalk())


@pytest.mark.parametrize(("steps", "epochs"), [(240, 10), (7, 7), (11, 1), (25, 5), (1, 1)])
def test_epochs_divide_the_steps_that_were_asked(steps: int, epochs: int) -> None:
    schedule = Settings(steps=steps).schedule
    assert (schedule.epochs, schedule.steps) == (epochs, steps)


def test_the_networks_output_has_a_channel_for_each_class_and_background() -> None:
    task = Task.of_card(PhantomGenerator().card)
    assert segmenter(task, 0)(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 4, 16, 16, 16)
