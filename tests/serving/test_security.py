"""Who cannot reach a server, what cannot hurt it, and what it does not tell."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.errors import GenerationError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.serving import messages as m
from nvgen_aug.serving import wire
from nvgen_aug.serving.connection import PREFIX
from nvgen_aug.serving.messages import without_paths
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.doubles import SECONDS
from tests.serving.doubles import served
from tests.serving.faulty import Scripted

NOBODY = 65534


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(Engine(PhantomGenerator())) as (_, address):
        yield address


def connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(address.removeprefix(PREFIX))
    return connection


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_even_connect(address: str) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                connected(address)
            except OSError as error:
                code = error.errno or 1
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EACCES


def test_no_socket_is_abstract(address: str) -> None:
    # An abstract name has no directory, so every user of the machine could connect.
    inodes = set()
    for place in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(place).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    ours = [line for line in lines if line[6] in inodes]
    assert [line for line in ours if address.removeprefix(PREFIX) in line[7:]]
    assert not [line for line in ours if line[7:] and line[7].startswith("@")]


FRAMES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=200).map(lambda body: _framed(body)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ).map(lambda value: _framed(repr(value).encode())),
    st.builds(
        m.Fetch,
        st.integers(-(2**40), 2**40),
        st.text(max_size=60),
        st.none() | st.text(max_size=30),
        st.floats(allow_nan=False, allow_infinity=False),
    ).map(wire.frame),
    st.builds(
        m.Put,
        st.integers(0, 9),
        st.text(max_size=4),
        st.lists(st.integers(-3, 2**40), max_size=4).map(tuple),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=17).map(tuple),
    ).map(wire.frame),
)


def _framed(body: bytes) -> bytes:
    return struct.pack(">4sBI", b"nvga", m.PROTOCOL, len(body)) + body


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAMES, max_size=3), st.booleans())
def test_whatever_a_client_sends_the_server_lives(
    address: str, frames: list[bytes], is_greeted: bool
) -> None:
    with connected(address) as connection:
        if is_greeted:
            connection.sendall(wire.frame(m.Hello(m.PROTOCOL)))
        with suppress(BrokenPipeError, ConnectionResetError):
            for frame in frames:
                connection.sendall(frame)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while True:
                some, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                for fd in fds:
                    os.close(fd)
                if not some:
                    break
    with Client(address) as client:
        assert_same(client.fetch(phantom(1)), made_directly(phantom(1)))


def test_an_error_does_not_tell_a_client_where_the_server_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("tell a path")
    with served(Engine(Scripted(tmp_path))) as (_, address), Client(address) as client:
        with pytest.raises(GenerationError) as caught:
            client.fetch(phantom(1))
        assert "No such file or directory: '<path>'" in str(caught.value)
        assert "jane" not in str(caught.value)
        assert "jane" not in client.status().to_json()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no weights at /opt/models/a.safetensors; fetch them", "no weights at <path>; fetch them"),
        ("[Errno 2] No such file: '/home/jane doe/x'", "[Errno 2] No such file: '<path>'"),
        ("unix:/run/user/1000/nvgen/socket", "unix:<path>"),
        ("12 MB/s, 1 / 2, image/label and </b>", "12 MB/s, 1 / 2, image/label and </b>"),
    ],
)
def test_paths_are_left_out_of_a_text(text: str, told: str) -> None:
    assert without_paths(text) == told
