"""A bucket behind caches on several machines, over the S3 protocol on loopback."""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from nvgen_aug import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache import object_store
from nvgen_aug.cache.object_store import ObjectStore
from nvgen_aug.cli import main
from nvgen_aug.errors import CacheError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def options(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What reaches a new bucket called `volumes`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for path in ("moto-api/reset", "volumes"):
        method = "POST" if "reset" in path else "PUT"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{path}", method=method)).close()
    return {"endpoint": endpoint, "region": "us-east-1"}


@pytest.fixture
def bucket(options: dict[str, str]) -> S3Store:
    """The bucket, seen without the cache."""
    return S3Store("volumes", prefix="ours", client_options={"allow_http": True}, **options)


class WithoutConditions(BaseHTTPRequestHandler):
    """Hands everything on to a server, but conditional writes, which it answers as Swift does."""

    protocol_version = "HTTP/1.1"
    behind = ""
    refused = 0

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "If-None-Match" in self.headers:
            type(self).refused += 1
            return self.answer(501, b"<Error><Code>NotImplemented</Code></Error>", {})
        return self.hand_on(body)

    def do_GET(self) -> None:
        self.hand_on(None)

    def do_HEAD(self) -> None:
        self.hand_on(None)

    def do_DELETE(self) -> None:
        self.hand_on(None)

    def do_POST(self) -> None:
        self.hand_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def hand_on(self, body: bytes | None) -> None:
        request = urllib.request.Request(self.behind + self.path, body, method=self.command)
        request.add_header("Content-Type", "application/octet-stream")  # not that of a form
        for name in ("Authorization", "x-amz-date", "x-amz-content-sha256"):
            if name in self.headers:
                request.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(request) as answer:
                self.answer(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                self.answer(error.code, error.read(), dict(error.headers))

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name in ("ETag", "Last-Modified", "Content-Type"):
            if name in headers:
                self.send_header(name, headers[name])
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def as_on_swift(options: dict[str, str]) -> Iterator[dict[str, str]]:
    """The same bucket through a server that creates nothing conditionally."""
    handler = type("Handler", (WithoutConditions,), {"behind": options["endpoint"], "refused": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield {**options, "endpoint": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()
        assert handler.refused <= 4  # once, with the client's own three further tries


def opened(path: Path, options: dict[str, str]) -> VolumeCache:
    return VolumeCache(path, max_bytes="100 MB", remote="s3://volumes/ours", remote_options=options)


def objects(bucket: S3Store) -> list[str]:
    return sorted(found["path"] for page in bucket.list() for found in page)


def test_what_one_machine_stores_another_reads(tmp_path, make, options) -> None:
    key, made = make(1)
    assert opened(tmp_path / "a", options).put_volume(key, made.volume)
    other = opened(tmp_path / "b", options)
    found = other.get_volume(key)
    np.testing.assert_array_equal(found.image, made.volume.image)
    np.testing.assert_array_equal(found.label, made.volume.label)
    assert found.provenance == made.volume.provenance
    assert other.stats().entries == 1  # and the next read asks nobody


def test_latents_and_uploads_travel_too(tmp_path, make, options) -> None:
    _, made = make(1)
    one, other = opened(tmp_path / "a", options), opened(tmp_path / "b", options)
    one.put_latent("ab" * 32, made.latent)
    np.testing.assert_array_equal(other.get_latent("ab" * 32).tensor, made.latent.tensor)


def test_what_nobody_has_is_a_miss(tmp_path, make, options) -> None:
    assert opened(tmp_path / "a", options).get_volume(make(1)[0]) is None


def test_a_reader_asks_no_bucket(tmp_path, make, options) -> None:
    key, made = make(1)
    opened(tmp_path / "a", options).put_volume(key, made.volume)
    assert opened(tmp_path / "b", options).reader().get_volume(key) is None


def test_the_commit_object_is_written_last(tmp_path, make, options, bucket, monkeypatch) -> None:
    key, made = make(1)
    seen = []
    create = ObjectStore._create

    def look_first(self, path, content):
        seen.extend(objects(bucket))
        return create(self, path, content)

    monkeypatch.setattr(ObjectStore, "_create", look_first)
    opened(tmp_path / "a", options).put_volume(key, made.volume)
    assert seen
    assert [name for name in objects(bucket) if name not in seen] == [
        f"volumes/{key[:2]}/{key}/commit.json"
    ]


def test_of_two_writers_at_once_one_is_whole_and_nothing_is_left_of_the_other(
    tmp_path, make, options, bucket, monkeypatch
) -> None:
    key, made = make(1)
    both_have_sent = threading.Barrier(2)
    one_by_one = threading.Lock()
    create = ObjectStore._create

    def at_once(self, path, content):
        both_have_sent.wait(30)
        with one_by_one:  # moto looks and writes in two steps, which a bucket does in one
            return create(self, path, content)

    monkeypatch.setattr(ObjectStore, "_create", at_once)
    caches = [opened(tmp_path / name, options) for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cache: cache.put_volume(key, made.volume), caches))
    folders = {name.split("/")[3] for name in objects(bucket)} - {"commit.json"}
    assert len(folders) == 1
    third = opened(tmp_path / "c", options)
    np.testing.assert_array_equal(third.get_volume(key).image, made.volume.image)


@pytest.mark.parametrize("how", ["answered 501", "switched off"])
def test_a_store_that_creates_nothing_conditionally_keeps_whole_entries(
    tmp_path, make, options, as_on_swift, bucket, how
) -> None:
    given = as_on_swift if how == "answered 501" else {**options, "conditional_put": "disabled"}
    first, second = (opened(tmp_path / name, given) for name in "ab")
    for seed in (1, 2):
        key, made = make(seed)
        assert first.put_volume(key, made.volume)
        kept = objects(bucket)
        second.put_volume(key, made.volume)
        assert objects(bucket) == kept  # nothing is left of the second
        other = opened(tmp_path / f"c{seed}", given).get_volume(key)
        np.testing.assert_array_equal(other.image, made.volume.image)


def test_a_commit_whose_answer_was_lost_counts(
    tmp_path, make, options, bucket, monkeypatch
) -> None:
    key, made = make(1)
    create = ObjectStore._create

    def ask_twice(self, path, content):
        create(self, path, content)
        return create(self, path, content)

    monkeypatch.setattr(ObjectStore, "_create", ask_twice)
    opened(tmp_path / "a", options).put_volume(key, made.volume)
    assert opened(tmp_path / "b", options).get_volume(key) is not None


@pytest.mark.parametrize("harm", ["flip", "delete", "commit"])
def test_a_damaged_entry_is_a_miss_and_is_stored_again(
    tmp_path, make, options, bucket, harm
) -> None:
    key, made = make(1)
    opened(tmp_path / "a", options).put_volume(key, made.volume)
    name = next(n for n in objects(bucket) if "/image/c/" in n)
    if harm == "delete":
        bucket.delete(name)
    elif harm == "commit":
        bucket.put(f"volumes/{key[:2]}/{key}/commit.json", b"{}")
    else:
        content = bytearray(bytes(bucket.get(name).bytes()))
        content[len(content) // 2] ^= 1
        bucket.put(name, bytes(content))
    other = opened(tmp_path / "b", options)
    assert other.get_volume(key) is None
    assert (other.stats().entries, list((tmp_path / "b" / "partial").iterdir())) == (0, [])
    assert other.put_volume(key, made.volume)
    assert opened(tmp_path / "c", options).get_volume(key) is not None


def test_a_commit_that_names_another_place_is_not_followed(tmp_path, make, options, bucket) -> None:
    key, made = make(1)
    opened(tmp_path / "a", options).put_volume(key, made.volume)
    seal = f"volumes/{key[:2]}/{key}/commit.json"
    text = bytes(bucket.get(seal).bytes()).decode()
    bucket.put(seal, text.replace("image/zarr.json", "../../zarr.json").encode())
    other = opened(tmp_path / "b", options)
    assert other.get_volume(key) is None
    assert list(tmp_path.glob("**/zarr.json")) == list((tmp_path / "a").glob("**/zarr.json"))


def test_a_bucket_out_of_reach_costs_no_sample_and_is_asked_once_a_minute(
    tmp_path, make, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    key, made = make(1)
    nowhere = {
        "endpoint": "http://127.0.0.1:9",
        "region": "us-east-1",
        "retry_config": {"max_retries": 0},
    }
    clock = [1000.0]
    monkeypatch.setattr(object_store.time, "monotonic", lambda: clock[0])
    cache = opened(tmp_path / "a", nowhere)
    with caplog.at_level(logging.WARNING):
        assert cache.get_volume(key) is None
        assert cache.put_volume(key, made.volume)
    assert cache.get_volume(key) is not None
    assert caplog.text.count("goes on without it for 60 s") == 1
    clock[0] += 61
    assert cache.get_volume(make(2)[0]) is None
    assert caplog.text.count("goes on without it for 60 s") == 2


def test_an_address_that_means_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(CacheError, match=r"remote 'ftp://volumes' cannot be used"):
        VolumeCache(tmp_path, remote="ftp://volumes")


def test_a_server_fills_the_bucket_and_another_one_generates_nothing(tmp_path, options) -> None:
    spec = PhantomGenerator().card.resolve(VolumeSpec("phantom", seed=3))
    with serve("phantom", cache=opened(tmp_path / "a", options)) as source:
        first = source.fetch(spec)
    with serve("phantom", cache=opened(tmp_path / "b", options)) as source:
        np.testing.assert_array_equal(source.fetch(spec).image, first.image)
        assert source.stats().generated == 0


def test_warming_takes_from_the_bucket_what_another_machine_has_made(
    tmp_path, options, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", options["region"])
    for name, said in (("a", "3 made"), ("b", "0 made, 0 decoded from latents, 3 fetched")):
        with pytest.raises(SystemExit) as ended:
            main(
                f"cache warm {tmp_path / name} --variant phantom --num 3 --max-bytes 1GB "
                "--remote s3://volumes/ours".split()
            )
        assert ended.value.code == 0
        assert said in capsys.readouterr().err
