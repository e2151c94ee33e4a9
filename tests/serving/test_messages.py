"""Frames: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SourceError
from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WeightsError
from nvgen_aug.serving import messages as m
from nvgen_aug.serving import wire

VOXELS = m.Voxels(1, "k", 0, 3, ("<i2",), (1, 2, 3, 4), None, (1.0,) * 16, "{}", None)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(5)
        other.settimeout(5)
        yield one, other


@pytest.mark.parametrize(
    "message",
    [
        m.Hello(1),
        m.Fetch(2, "{}", None, 1.5),
        m.Fetch(2, "{}", "[]", 1),
        VOXELS,
        m.Prefetch(3, ("a", "b")),
        m.Failure(4, "SpecError", "no"),
    ],
)
def test_a_message_arrives_as_it_was_sent(
    ends: tuple[socket.socket, socket.socket], message: m.Message
) -> None:
    ends[0].sendall(wire.frame(message))
    assert wire.receive(ends[1], m.Message) == message


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"request": 1, "spec": "{}", "crop": None},
        {"request": 1, "spec": "{}", "crop": None, "seconds": 1.0, "extra": 1},
        {"request": "1", "spec": "{}", "crop": None, "seconds": 1.0},
        {"request": True, "spec": "{}", "crop": None, "seconds": 1.0},
        {"request": 1, "spec": ["{}"], "crop": None, "seconds": 1.0},
        {"request": 1, "spec": None, "crop": None, "seconds": 1.0},
        {"request": 1, "spec": "{}", "crop": None, "seconds": float("nan")},
    ],
)
def test_fields_that_are_missing_strange_or_of_the_wrong_kind_are_refused(values: object) -> None:
    with pytest.raises(SourceError):
        wire.parse(json.dumps(["Fetch", values]).encode())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(SourceError, match="not a message"):
        wire.parse(body)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_message_or_an_error_of_ours(value: object) -> None:
    with pytest.raises(SourceError):
        wire.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'["Ping", ["request"]]',
        b'["Fetch", {"request": 1, "spec": "", "crop": null, "seconds": 1' + b"0" * 400 + b"}]",
    ],
)
def test_fields_that_are_no_object_and_numbers_beyond_a_float_are_refused(body: bytes) -> None:
    with pytest.raises(SourceError, match="not a message"):
        wire.parse(body)


def test_a_length_is_not_believed(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">4sBI", b"nvga", m.PROTOCOL, 2**32 - 1))
    with pytest.raises(SourceError, match="not a frame"):
        wire.receive(ends[1], m.Message)


def test_another_protocol_is_named(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">4sBI", b"nvga", 9, 2))
    with pytest.raises(SourceError, match=f"speaks protocol 9, this one {m.PROTOCOL}"):
        wire.receive(ends[1], m.Message)


def test_an_end_in_the_middle_is_an_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(wire.frame(VOXELS)[:-5])
    ends[0].close()
    with pytest.raises(EOFError):
        wire.receive(ends[1], m.Message)


def test_a_message_over_the_bound_is_not_sent() -> None:
    with pytest.raises(SourceError, match="a message may have"):
        wire.frame(m.Prefetch(1, ("x" * wire.MAX_FRAME_BYTES,)))


@pytest.mark.parametrize("kind", [SpecError, GenerationError, WeightsError])
def test_an_error_of_ours_keeps_its_class_and_text(kind: type[Exception]) -> None:
    error = m.Failure.of(kind("why, and what next")).error()
    assert type(error) is kind
    assert str(error) == "why, and what next"


def test_any_other_error_becomes_a_source_error_that_names_it() -> None:
    assert str(m.Failure.of(KeyError("x")).error()) == "KeyError: 'x'"
    for name in ("OSError", "did_you_mean", "annotations", "__name__", "nothing"):
        assert type(m.Failure(1, name, "text").error()) is SourceError


@pytest.mark.parametrize(
    "crop",
    [
        None,
        Crop((1, 2, 3), (4, 5, 6)),
        CropRule((4, 5, 6)),
        CropRule((4, 5, 6), centre=(("organ", 2.0), ("lesion", 1.0)), seed=2**62),
    ],
)
def test_a_crop_arrives_as_it_was_sent(crop: Crop | CropRule | None) -> None:
    assert wire.crop_from_json(wire.crop_to_json(crop)) == crop


@pytest.mark.parametrize("text", ["", "[]", "{}", '["Crop", {}]', '["exit", {}]', '["Crop", 1]'])
def test_what_is_no_crop_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="not a crop"):
        wire.crop_from_json(text)
