"""What the report must hold, and what it must not."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nvgen_aug.demo.fit import Arm
from nvgen_aug.demo.fit import Epoch
from nvgen_aug.demo.outcome import Outcome
from nvgen_aug.demo.report import write_report
from nvgen_aug.demo.settings import Settings
from nvgen_aug.demo.subjects import Subjects
from nvgen_aug.demo.task import Task
from nvgen_aug.evaluation.page import Page
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.record import RunRecord
from tests.demo.test_supply import DONE
from tests.demo.test_supply import SLOW

CARD = PhantomGenerator().card


class Read(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def item() -> dict[str, Any]:
    label = torch.zeros((1, 8, 8, 8))
    label[:, 2:6, 2:6, 2:6] = 1
    return {"image": label * 3 - 1, "label": label}


def arm(name: str, ratio: Fraction, synthetic: int) -> Arm:
    epoch = Epoch(
        loss=1.0,
        dice={"body": 0.5, "organ": None, "lesion": 0.25},
        samples=10,
        synthetic=synthetic,
        asked=float(10 * ratio),
        seconds=4.0,
        waiting=1.5,
    )
    volumes = ("a", "b", "c", "a", "b", "d") if synthetic else ()
    return Arm(name, ratio, tuple(np.linspace(2, 1, 10)), (epoch, epoch), ("0", "1"), volumes)


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    """Two runs of two epochs, written by hand."""
    return Outcome(
        settings=Settings(out=tmp_path, variant="phantom"),
        card=CARD,
        task=Task.of_card(CARD),
        subjects=Subjects((item(), item()), (item(),), "stand-in", "Not patients <at all>."),
        arms=(arm("real only", Fraction(0), 0), arm("0.3 synthetic", Fraction(3, 10), 3)),
        forecast=SLOW,
        supply=DONE,
        synthetic=(("no lesion asked", item()), ("no lesion asked", item())),
        seconds=120.0,
    )


@pytest.fixture
def page(outcome: Outcome) -> Read:
    """The report, read."""
    return Read(write_report(outcome).read_text(encoding="utf-8"))


def test_the_page_fetches_nothing_and_runs_nothing(page: Read) -> None:
    assert not page.named("script")
    assert not page.named("link")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or ""
            assert target.startswith(("data:", "#")) or not target


def test_the_page_has_the_picture_inside(page: Read) -> None:
    (image,) = page.named("img")
    assert (image["src"] or "").startswith("data:image/png;base64,")
    assert image["alt"]


def test_the_page_has_loss_and_dice_curves_of_both_runs(page: Read) -> None:
    charts = [attributes for attributes in page.named("svg") if "aria-label" in attributes]
    assert [chart["aria-label"] for chart in charts] == [
        "Loss of both runs by optimizer step",
        "Dice of both runs by epoch, mean and by class",
    ]
    for name in ("real only", "0.3 synthetic", "optimizer step", "lesion"):
        assert name in page.text


def test_ids_of_the_two_charts_do_not_meet(page: Read) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {(a.get("xlink:href") or "#")[1:] for a in page.named("use")}
    assert used <= set(ids)


def test_the_page_says_what_it_is_not(page: Read) -> None:
    assert "share one template" in page.text
    assert "one run proves no benefit" in page.text


def test_texts_are_escaped(page: Read) -> None:
    assert "Not patients <at all>." in page.text
    assert not page.named("at")


def test_the_page_states_asked_and_delivered_share_by_epoch(page: Read) -> None:
    for cell in ("3.0 of 10", "3 of 10", "3 of 10 = 30.0%", "6 of 20 = 30.0%", "3 / 0", "1 / 2"):
        assert cell in page.text


def test_the_page_states_the_asked_share_as_it_was_asked(outcome: Outcome) -> None:
    arms = (outcome.arms[0], replace(outcome.arms[1], ratio=Fraction(1, 8)))
    page = Read(write_report(replace(outcome, arms=arms)).read_text(encoding="utf-8"))
    assert "12.5%synthetic share asked" in page.text


def test_the_page_states_volumes_hits_and_times(page: Read) -> None:
    for words in (
        "distinct volumes",
        "cache hits",
        "time of a generation3.00 s",
        "waiting for batches, blended run190.0 s",
        "training waits about 192 s",
    ):
        assert words in page.text


def test_the_page_states_settings_and_versions(page: Read) -> None:
    for words in ("max reuse", "weights digest", "torch", "monai", "code revision", "processor"):
        assert words in page.text


def test_a_class_that_no_volume_has_gets_no_score(page: Read) -> None:
    assert "organ––" in page.text


def test_the_record_holds_all_curves(outcome: Outcome) -> None:
    write_report(outcome)
    numbers = RunRecord.read(outcome.settings.out / "report.json").numbers
    assert len(numbers["real_only"]["loss_by_step"]) == 10
    assert [epoch["dice"]["lesion"] for epoch in numbers["blended"]["epochs"]] == [0.25, 0.25]
    assert numbers["synthetic"]["distinct"] == 64


def test_the_record_is_json_that_any_reader_takes(outcome: Outcome) -> None:
    write_report(outcome)
    text = (outcome.settings.out / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_nothing_half_written_is_left_behind(outcome: Outcome) -> None:
    write_report(outcome)
    names = sorted(path.name for path in outcome.settings.out.iterdir())
    assert names == ["real-and-synthetic.png", "report.html", "report.json"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = Page("old", "").write(tmp_path / "report.html")
    broken = Page("new", "")
    broken.section("\ud800", "")  # no such character can be encoded
    with pytest.raises(UnicodeEncodeError):
        broken.write(path)
    assert "old" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
