"""`nvgen-aug plan`: the plan as a table, and the demand beside the supply."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import nvgen_aug as nv
from nvgen_aug.cli import app
from nvgen_aug.cli import main


def printed(*arguments: str) -> list[list[str]]:
    """The lines of the table and of what follows, as words."""
    result = CliRunner().invoke(app, ["plan", *arguments])
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines() if line]


def test_each_epoch_has_a_line_and_the_run_a_sum() -> None:
    lines = printed(
        "--real", "50", "--epoch-length", "20", "--ratio", "linear:0:0.5:epochs=2",
        "--batch-size", "4", "--epochs", "3",
    )  # fmt: skip
    assert lines[0][:3] == ["epoch", "samples", "asked"]
    assert lines[1:5] == [
        ["0", "20", "0.00", "0", "0.00%", "0", "0", "0"],
        ["1", "20", "5.00", "5", "25.00%", "5", "0", "1"],
        ["2", "20", "10.00", "10", "50.00%", "10", "0", "2"],
        ["all", "60", "15.00", "15", "25.00%", "15", "0", "1"],
    ]


def test_without_epochs_the_table_ends_where_the_share_stays() -> None:
    names = [line[0] for line in printed("--real", "9", "--ratio", "0.1")]
    assert names[:2] == ["epoch", "0"]
    assert "1" not in names
    shares = ["--real", "9", "--epoch-length", "8", "--batch-size", "4"]
    lines = printed(*shares, "--ratio", "piecewise:steps:0=0,6=1/2")
    assert [line[3] for line in lines[1:5]] == ["0", "0", "0", "4"]


def test_the_samples_shown_are_those_of_the_dataset() -> None:
    lines = printed(
        "--real", "5", "--ratio", "1/2", "--batch-size", "2", "--world-size", "2",
        "--max-reuse", "2", "--seed", "3", "--show", "30",
    )  # fmt: skip
    source = nv.open_source("phantom")
    with source:
        synthetic = nv.SyntheticDataset(source, nv.Recipe(), max_reuse=2)
        train = nv.SyntheticRealDataset(list(range(5)), synthetic, ratio=0.5, seed=3)
        planned = {
            (key.epoch, key.position): key
            for epoch in range(3)
            for rank in range(2)
            for key in train.plan(epoch, 2, 2, rank)
        }
    begin = lines.index(["epoch", "batch", "rank", "position", "kind", "number", "use"])
    shown = lines[begin + 1 :]
    assert len(shown) == 30
    for epoch, _, _, position, kind, number, use in shown:
        key = planned[int(epoch), int(position)]
        assert kind == ("synthetic" if key.is_synthetic else "real")
        assert int(number) == key.index
        assert use == (str(key.reuse + 1) if key.is_synthetic else "-")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--seconds-per-volume", "5"], "supply: 0.2 volumes/s of one generator"),
        (["--seconds-per-volume", "5", "--seconds-per-step", "20"], "the generator keeps up"),
        (
            ["--seconds-per-volume", "5", "--seconds-per-step", "2"],
            "training waits; --max-reuse 5 in a long run, or a ratio of about 0.1 at --max-reuse 1",
        ),
        (
            ["--seconds-per-volume", "5", "--seconds-per-step", "2", "--max-reuse", "9",
             "--epochs", "2"],
            "training waits for these first volumes, and not in a longer run",
        ),
    ],
)  # fmt: skip
def test_demand_and_supply_are_compared(more: list[str], text: str) -> None:
    arguments = ["--real", "16", "--epoch-length", "16", "--ratio", "0.5", "--batch-size", "4"]
    lines = [" ".join(line) for line in printed(*arguments, "--epochs", "10", *more)]
    assert any("new volumes per step" in line for line in lines)
    assert any(text in line for line in lines), lines


def test_the_supply_can_be_measured() -> None:
    lines = printed("--real", "4", "--ratio", "0.5", "--measure", "phantom")
    assert any(line[:1] == ["supply:"] for line in lines)


def test_a_share_of_0_needs_no_supply() -> None:
    lines = printed("--real", "4", "--ratio", "0", "--measure", "no-such-model")
    assert lines[-1][:3] == ["demand:", "no", "volume,"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--ratio", "50"], "did you mean 0.5?"),
        (["--ratio", "liner:0:1:epochs=3"], "did you mean `linear`"),
        (["--ratio", "linear:0:0.5:epochs=3"], "pass `epoch_length=`"),
        (["--ratio", "0.5", "--real", "0"], "--real 0 leaves no real case"),
        (["--ratio", "0.5", "--seconds-per-volume", "1", "--measure", "phantom"], "one of them"),
        (["--ratio", "0.5", "--seconds-per-volume", "0"], "seconds_per_volume must be"),
    ],
)
def test_a_plan_that_cannot_be_is_the_users_error(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["plan", "--real", "5", *arguments])
    assert text in capsys.readouterr().err


def test_a_server_that_has_made_nothing_yet_cannot_say_its_rate() -> None:
    arguments = ["plan", "--real", "5", "--ratio", "0.5", "--measure"]
    with nv.serve("phantom") as source:
        address = source.address
        result = CliRunner().invoke(app, [*arguments, address])
        assert "pass --seconds-per-volume" in str(result.exception)
        source.fetch(nv.VolumeSpec("phantom", seed=1))
        assert "supply:" in CliRunner().invoke(app, [*arguments, address]).stdout
