"""`nvgen-aug status`, as a person and as a program see it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nvgen_aug.assembly import serve
from nvgen_aug.cli import app
from nvgen_aug.cli.status import rows_of
from nvgen_aug.serving import Client
from nvgen_aug.serving import ServedSource
from nvgen_aug.serving import lifecycle
from nvgen_aug.serving.status import Status
from tests.contracts.source import phantom

COMMAND = CliRunner()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSource]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        with serve("phantom") as source:
            for seed in (1, 2, 2):
                source.fetch(phantom(seed))
            yield source


def run(*arguments: str) -> str:
    done = COMMAND.invoke(app, ["status", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_one_look_says_what_a_person_wants_to_know(source: ServedSource) -> None:
    text = run(source.address, "--once")
    assert source.address in text
    assert re.search(r"hits +33% of 3 fetches", text)
    assert re.search(r"made +2 generated", text)
    assert re.search(r"last error +none", text)


def test_where_nobody_watches_one_look_is_enough(source: ServedSource) -> None:
    assert "0 restarts" in run(source.address)


def test_a_program_gets_json(source: ServedSource) -> None:
    values = json.loads(run(source.address, "--json"))
    assert (values["address"], values["generated"]) == (source.address, 2)
    assert values["is_ready"] is True
    assert values["memory"] > 1_000_000


def test_all_generators_of_a_server_are_shown() -> None:
    with serve("phantom", device=["cpu", "cpu"]) as source:
        with Client(source.address) as client:
            one, other = client.addresses
        text = run(source.address, "--once")
        assert f"server      {one} " in text
        assert f"server      {other} " in text
        told = [json.loads(line) for line in run(other, "--json").splitlines()]
        assert [values["address"] for values in told] == [one, other]


def test_prometheus_gets_its_text_form(source: ServedSource) -> None:
    text = run(source.address, "--metrics")
    assert '\nnvgen_generated_total{variant="phantom"} 2\n' in text
    sample = re.compile(r'nvgen_[a-z_]+\{variant="phantom"\} [0-9.e+-]+')
    for line in text.strip().splitlines():
        assert sample.fullmatch(line) or re.match(r"# (HELP|TYPE) nvgen_[a-z_]+ \w", line)


def test_a_health_check_makes_the_server_show_that_it_works(source: ServedSource) -> None:
    assert run(source.address, "--prove") == ""


def test_without_an_address_all_servers_of_this_user_are_listed(
    source: ServedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(source.address.removeprefix("unix:"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.parents[1]))
    lines = run().splitlines()
    assert [line for line in lines if line.startswith(f"{source.address}  phantom  ready")]
    addresses = [json.loads(line)["address"] for line in run("--json").splitlines()]
    assert source.address in addresses


def test_nobody_at_the_address_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    done = COMMAND.invoke(app, ["status", f"unix:{tmp_path}/socket", "--once"])
    assert "start one with `nvgen-aug serve`" in str(done.exception)


def test_metrics_are_of_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "running", lambda: ["unix:/a", "unix:/b"])
    done = COMMAND.invoke(app, ["status", "--metrics"])
    assert "2 run; name its address" in str(done.exception)


def test_where_no_server_runs_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "running", list)
    done = COMMAND.invoke(app, ["status"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "start one with `nvgen-aug serve`" in done.stderr


def test_what_was_wrong_with_volumes_that_were_thrown_away_is_counted(source: ServedSource) -> None:
    assert re.search(r"quality +no volume was thrown away", run(source.address))
    values = json.loads(run(source.address, "--json"))
    del values["address"]
    found = Status(**{**values, "rejected": {"tissue contrast": 1, "lesion contrast": 3}})
    rows = dict(rows_of(source.address, found))
    assert rows["quality"] == "thrown away for lesion contrast (3), tissue contrast (1)"
    line = 'nvgen_rejected_total{variant="phantom",reason="lesion contrast"} 3\n'
    assert line in found.metrics()
    assert Status.from_json(found.to_json()) == found
