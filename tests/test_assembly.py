"""Assembly: what a name or an address stands for."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nvgen_aug.assembly import load_generator
from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve_forever
from nvgen_aug.cache import CachedSource
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import SourceError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving import Client
from nvgen_aug.serving import Engine
from nvgen_aug.spec import VolumeSpec

ROOT = Path(__file__).parents[1]
SPEC = VolumeSpec("phantom", seed=1, size=(16, 16, 16))


def test_a_variant_is_loaded_with_its_options() -> None:
    generator = load_generator("phantom", seconds_per_volume=0.5)
    assert isinstance(generator, PhantomGenerator)
    assert generator.seconds_per_volume == 0.5


def test_an_unknown_variant_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="no variant `tiny-brian`; did you mean `tiny-brain`"):
        load_generator("tiny-brian")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(SpecError, match=r"`phantom` cannot be loaded with the options \['speed'\]"):
        load_generator("phantom", speed=1)


@pytest.mark.parametrize("variant", ["phantom", "tiny-brain"])
def test_an_unknown_backend_is_refused_and_not_ignored(variant: str) -> None:
    with pytest.raises(SpecError, match=r"backend must be one of \('eager', .*got 'tensort'"):
        load_generator(variant, backend="tensort")


def test_a_variant_is_an_engine_here_and_an_address_a_client() -> None:
    with open_source("phantom") as source:
        assert isinstance(source, Engine)
    with open_source("unix:/run/nvgen/socket") as source:
        assert isinstance(source, Client)


@pytest.mark.parametrize(
    ("name", "value"), [("weights", "x"), ("device", "cuda"), ("max_bytes", "1 GB")]
)
def test_what_only_a_variant_heeds_is_refused_for_an_address(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=rf"{name}: for a variant only"):
        open_source("unix:/run/nvgen/socket", **{name: value})


def test_a_cache_may_be_a_path_or_a_cache(tmp_path: Path) -> None:
    with open_source("phantom", cache=tmp_path) as source:
        source.fetch(SPEC)
    with open_source("phantom", cache=VolumeCache(tmp_path)) as source:
        source.fetch(SPEC)
        assert source.stats().generated == 0
    with open_source("unix:/run/nvgen/socket", cache=tmp_path) as source:
        assert isinstance(source, CachedSource)


def test_a_server_in_the_foreground_answers_and_stops_on_a_signal() -> None:
    script = (
        "import nvgen_aug.assembly as a;"
        "a.serve_forever('phantom', on_ready=lambda address: print(address, flush=True));"
        "print('stopped')"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        server = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert server.stdout is not None
        with server.stdout:
            address = server.stdout.readline().strip()
            with open_source(address) as source:
                assert source.fetch(SPEC).shape == (16, 16, 16)
            server.send_signal(number)
            assert server.stdout.read() == "stopped\n"
        assert server.wait() == 0
        assert not Path(address.removeprefix("unix:")).parent.exists()


def test_an_address_that_another_server_has_is_refused_with_its_process() -> None:
    with tempfile.TemporaryDirectory(prefix="nvgen-test-") as name:
        address = f"unix:{name}/new/socket"

        def start_another(ready: str) -> None:
            with pytest.raises(SourceError, match=r"another server \(process \d+\) answers at"):
                serve_forever("phantom", address=address)
            assert ready == address
            assert (Path(name) / "new").stat().st_mode & 0o777 == 0o700
            signal.raise_signal(signal.SIGTERM)

        (Path(name) / "new").mkdir(mode=0o700)
        (Path(name) / "new/socket").touch()  # left by a server that was killed
        serve_forever("phantom", address=address, on_ready=start_another)
        assert list((Path(name) / "new").iterdir()) == []


def test_a_place_that_others_can_enter_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="nvgen-test-") as name:
        Path(name).chmod(0o755)
        with pytest.raises(SourceError, match=r"mode 0700, got user \d+ and mode 0755"):
            serve_forever("phantom", address=f"unix:{name}/socket")
