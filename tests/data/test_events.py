"""Events are chained, whole, and written by many processes without harm."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from nvgen_aug.data.events import EventLog
from nvgen_aug.errors import DataError


def log(folder: Path, number: int = 3) -> EventLog:
    found = EventLog(folder)
    for k in range(number):
        found.append([{"kind": "sample", "k": k}])
    return found


def write_many(folder: Path, writer: int, number: int) -> None:
    for k in range(number):
        EventLog(folder).append([{"kind": "sample", "writer": writer, "k": k, "pad": "x" * 5000}])


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    chain = log(tmp_path).read()
    assert [(event["n"], event["k"]) for event in chain.events] == [(1, 0), (2, 1), (3, 2)]
    assert (chain.torn, chain.breaks) == ((), ())


def test_several_events_of_one_write_are_chained_too(tmp_path: Path) -> None:
    one = EventLog(tmp_path)
    one.append([{"kind": "sample", "k": k} for k in range(4)])
    assert [event["n"] for event in one.read().events] == [1, 2, 3, 4]
    assert one.read().breaks == ()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_writers_in_several_processes_do_not_mix_their_lines(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    writers = [context.Process(target=write_many, args=(tmp_path, w, 40)) for w in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    chain = EventLog(tmp_path).read()
    assert (chain.torn, chain.breaks) == ((), ())
    for w in range(3):
        assert [e["k"] for e in chain.events if e["writer"] == w] == list(range(40))


def test_a_changed_line_is_found_by_its_number(tmp_path: Path) -> None:
    path = log(tmp_path).path
    path.write_text(path.read_text().replace('"k":1', '"k":9'))
    assert EventLog(tmp_path).read().breaks == ("line 3 does not continue line 2: one was changed",)


def test_a_line_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    path = log(tmp_path).path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    assert EventLog(tmp_path).read().breaks == ("line 2 was written as line 3",)


def test_a_line_of_somebody_else_is_found(tmp_path: Path) -> None:
    path = log(tmp_path).path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "nonsense\n", *lines[1:]]))
    assert EventLog(tmp_path).read().breaks[0] == ("line 2 is no event, and none was torn there")


@pytest.mark.parametrize("cut", [2, 30, 90])
def test_a_torn_last_line_is_told_and_does_not_break_the_chain(tmp_path: Path, cut: int) -> None:
    path = log(tmp_path).path
    os.truncate(path, path.stat().st_size - cut)
    assert EventLog(tmp_path).read().torn == (3,)
    EventLog(tmp_path).append([{"kind": "sample", "k": 3}])
    chain = EventLog(tmp_path).read()
    assert (chain.torn, chain.breaks) == ((3,), ())
    assert [event["kind"] for event in chain.events] == ["sample", "sample", "torn", "sample"]
    assert [event["n"] for event in chain.events] == [1, 2, 4, 5]


def test_a_line_that_lacks_only_its_end_is_whole(tmp_path: Path) -> None:
    path = log(tmp_path).path
    os.truncate(path, path.stat().st_size - 1)
    assert len(EventLog(tmp_path).read().events) == 3
    EventLog(tmp_path).append([{"kind": "sample", "k": 3}])
    chain = EventLog(tmp_path).read()
    assert (len(chain.events), chain.torn, chain.breaks) == (4, (), ())


def test_a_writer_may_be_killed_at_any_byte_of_any_write(tmp_path: Path) -> None:
    whole = log(tmp_path / "whole", 2).path.read_bytes()
    for size in range(len(whole) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "events.jsonl").write_bytes(whole[:size])
        EventLog(folder).append([{"kind": "sample", "k": 7}])
        chain = EventLog(folder).read()
        assert chain.breaks == ()
        assert chain.events[-1]["k"] == 7
        # And again, in the middle of saying what was found.
        again = (folder / "events.jsonl").read_bytes()
        (folder / "events.jsonl").write_bytes(again[: size + (len(again) - size) // 2])
        EventLog(folder).append([{"kind": "sample", "k": 8}])
        assert EventLog(folder).read().breaks == ()


def test_a_torn_line_that_was_changed_afterwards_is_found(tmp_path: Path) -> None:
    path = log(tmp_path).path
    os.truncate(path, path.stat().st_size - 20)
    EventLog(tmp_path).append([{"kind": "sample", "k": 3}])
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-1] + b"?"
    path.write_bytes(b"\n".join(lines))
    assert EventLog(tmp_path).read().breaks == ("line 3 is no event, and none was torn there",)


def test_a_line_longer_than_what_is_read_at_once_is_continued(tmp_path: Path) -> None:
    one = EventLog(tmp_path)
    one.append([{"kind": "sample", "text": "x" * 200_000}])
    one.append([{"kind": "sample"}])
    assert one.read().breaks == ()


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(DataError, match="holds no events"):
        log(tmp_path)
    assert (tmp_path / "events.jsonl").read_text() == '{"mine": 1}\n'


def test_a_folder_without_events_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="record_to"):
        EventLog(tmp_path).read()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to .*choose another folder"):
        log(tmp_path / "file" / "run")


def test_nothing_is_written_for_no_events(tmp_path: Path) -> None:
    EventLog(tmp_path / "run").append([])
    assert not (tmp_path / "run").exists()


def test_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    one = EventLog(tmp_path)
    one.append([{"kind": "sample", "name": "Fußball\nα"}])
    assert one.read().events[0]["name"] == "Fußball\nα"
    assert len(one.path.read_text().splitlines()) == 1
    assert json.loads(one.path.read_text())["n"] == 1
