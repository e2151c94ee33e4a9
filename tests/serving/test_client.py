"""The client: from any process, by any way a process can start."""

from __future__ import annotations

import copy
import fcntl
import multiprocessing
import os
import pickle
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from nvgen_aug.assembly import serve
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.serving import ServedSource
from nvgen_aug.serving.place import listen
from nvgen_aug.source import VolumeSource
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom
from tests.serving.digests import Digests
from tests.serving.doubles import SECONDS
from tests.serving.doubles import private_directory
from tests.serving.workers import digest
from tests.serving.workers import fetch_and_report

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(scope="module")
def source() -> Iterator[ServedSource]:
    with serve("phantom") as source:
        yield source


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """Digests of the volumes of an engine in this process."""
    with Engine(PhantomGenerator()) as engine:
        return [digest(engine.fetch(phantom(seed))) for seed in range(6)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["client", "served source"])
def test_a_child_process_gets_the_bytes_of_an_engine(
    source: ServedSource, expected: list[str], method: str, kind: str
) -> None:
    with Client(source.address) as client:
        asked: VolumeSource = client if kind == "client" else source
        asked.fetch(phantom(0))  # a connection that a forked child must not touch
        assert reported(method, asked) == expected
        assert digest(asked.fetch(phantom(5))) == expected[5]


def reported(method: str, source: VolumeSource) -> list[str]:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]
        target=fetch_and_report, args=(source, list(range(6)), theirs)
    )
    child.start()
    with ours, theirs:
        assert ours.poll(SECONDS * 3)
        found: list[str] = ours.recv()
    child.join()
    assert child.exitcode == 0
    child.close()
    return found


def test_a_forked_child_drops_the_connection_of_its_parent_unread(source: ServedSource) -> None:
    with Client(source.address) as client:
        client.fetch(phantom(0))
        (parents,) = client._pool().idle
        child = os.fork()
        if child == 0:
            client.fetch(phantom(1))
            is_own = parents not in client._pool().idle and parents._socket.fileno() == -1
            os._exit(0 if is_own else 1)
        assert os.waitpid(child, 0)[1] == 0
        client.fetch(phantom(2))
        assert client._pool().idle == [parents]


@pytest.mark.parametrize(
    "method",
    ["fork", *(pytest.param(method, marks=pytest.mark.slow) for method in METHODS[1:])],
)
def test_the_workers_of_a_loader_get_the_bytes_of_an_engine(
    source: ServedSource, expected: list[str], method: str
) -> None:
    loader = DataLoader(
        Digests(source), batch_size=2, num_workers=2, multiprocessing_context=method
    )
    assert [found for batch in loader for found in batch] == expected
    # The parent's own connection is as it was.
    assert digest(source.fetch(phantom(1))) == expected[1]


def test_a_pickled_client_is_an_address_and_a_timeout(source: ServedSource) -> None:
    client = Client(source.address, timeout=7.0)
    client.fetch(phantom(0))
    text = pickle.dumps(client)
    assert len(text) < 200
    with pickle.loads(text) as other:
        assert (other.address, other.timeout) == (source.address, 7.0)
        assert_same(other.fetch(phantom(1)), made_directly(phantom(1)))
    client.close()


def test_a_pickled_served_source_cannot_stop_the_server(source: ServedSource) -> None:
    with pickle.loads(pickle.dumps(source)) as other:
        assert isinstance(other, Client)
        other.fetch(phantom(0))
    copy.deepcopy(source)._source.close()
    source.fetch(phantom(0))


def test_a_client_that_was_closed_connects_again(source: ServedSource) -> None:
    with Client(source.address) as client:
        client.fetch(phantom(0))
        client.close()
        client.fetch(phantom(1))


def test_a_client_leaves_no_descriptor_behind(source: ServedSource) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        client = Client(source.address)
        client.fetch(phantom(0))
        client.close()
    del client
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100, reason="`ulimit -n` allows no more"
)
def test_a_client_works_in_a_process_with_thousands_of_open_files(source: ServedSource) -> None:
    with Client(source.address) as client:
        client.fetch(phantom(0))
        (connection,) = client._pool().idle
        high = fcntl.fcntl(connection._socket, fcntl.F_DUPFD_CLOEXEC, 1024)
        connection._socket.close()
        connection._socket = socket.socket(fileno=high)
        client.fetch(phantom(1))
        assert client._pool().idle == [connection]


def test_a_client_needs_no_torch_and_no_zarr() -> None:
    code = (
        "import sys, nvgen_aug.serving\n"
        "print(sorted({'torch', 'zarr', 'monai', 'nvgen_aug.generators'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_advice_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    # It takes connections, as a process that is stopped does, and never says a word.
    with (
        private_directory() as folder,
        listen(folder / "socket"),
        Client(f"unix:{folder / 'socket'}", timeout=100_000.0) as client,
    ):
        client.prefetch([phantom(1)])
