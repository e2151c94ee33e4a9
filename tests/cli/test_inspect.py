"""`nvgen-aug inspect` adds up a record, and says whether it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import monai.transforms as mt
import pytest
from torch.utils.data import DataLoader

from nvgen_aug.cli import main
from nvgen_aug.data.events import EventLog
from nvgen_aug.data.manifest import Manifest
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.evaluation.run_summary import RunSummary
from tests.data.phantoms import KEYS
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The events of two epochs on two ranks."""
    folder = tmp_path_factory.mktemp("run")
    for rank in range(2):
        train = SyntheticRealDataset(
            real_cases(12),
            synthetic(max_reuse=3),
            ratio=0.5,
            transform=[mt.RandFlipd(KEYS, 0.5, 0)],
            epoch_length=32,
        )
        train.record_to(folder)
        batches = DataLoader(train, 4, sampler=train.sampler(4, 2, rank), collate_fn=list)
        for epoch in range(2):
            train.set_epoch(epoch)
            for _ in batches:
                pass
    return EventLog(folder).path.read_bytes()


@pytest.fixture
def run(tmp_path: Path, events: bytes) -> Path:
    (tmp_path / "events.jsonl").write_bytes(events)
    return tmp_path


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["inspect", *words])
    told = capsys.readouterr()
    return int(left.value.code or 0), told.out, told.err


def test_shares_and_exposure_are_printed_and_drawn(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = inspected(capsys, str(run))
    assert status == 0
    assert "asked 50.00% synthetic, delivered 50.00%: 32 of 64 samples" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["1", "32", "16", "50.00%", "50.00%"] in lines
    assert any(line[:1] == ["lesion"] for line in lines)
    assert "as the network sees: AUC" in out
    assert "their chain is whole" in err
    page = (run / "inspect.html").read_text()
    assert "What this run saw" in page
    assert page.count("<svg") == 3
    assert (run / "manifest.parquet").exists()


def test_a_record_that_was_changed_is_told_with_the_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "events.jsonl"
    lines = path.read_bytes().split(b"\n")
    place = next(k for k, line in enumerate(lines) if b'"kind":"sample"' in line)
    lines[place] = lines[place].replace(b'"asked":0.5', b'"asked":0.4')
    path.write_bytes(b"\n".join(lines))
    status, _, err = inspected(capsys, str(run))
    assert status == 1
    assert f"line {place + 2} does not continue line {place + 1}" in err
    assert "cannot be relied on" in (run / "inspect.html").read_text()


def test_a_line_that_a_killed_writer_left_is_told_and_is_no_failure(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "events.jsonl"
    os.truncate(path, path.stat().st_size - 40)
    status, _, err = inspected(capsys, str(run), "--no-page")
    assert status == 0
    assert "was left unfinished" in err
    assert not (run / "inspect.html").exists()


def test_a_folder_without_a_record_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = inspected(capsys, str(tmp_path))
    assert status == 1
    assert "train.record_to(folder)" in err


def test_the_share_is_never_a_sample_apart_at_a_step(run: Path) -> None:
    summary = RunSummary.of(Manifest.of(EventLog(run).read()), detect=False)
    assert summary.boundary < 1
    assert [share.samples for share in summary.ranks] == [32, 32]
    organ, lesion = summary.classes
    assert organ.synthetic == 32
    assert 0 < lesion.synthetic <= 32
    assert (lesion.real, lesion.real_voxels) == (0, 0)
