"""ObjectStore: entries in a bucket, which many machines fill and read through their own caches."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import ParamSpec
from typing import TypeVar
from typing import final

from obstore.exceptions import AlreadyExistsError
from obstore.exceptions import BaseError
from obstore.exceptions import GenericError
from obstore.exceptions import NotSupportedError
from obstore.store import from_url

from ..errors import CacheError
from .entry import Commit
from .entry import Damaged
from .entry import read_file
from .layout import COMMIT_FILE
from .layout import FORMAT
from .layout import Kind
from .layout import check_key

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

SECONDS_BETWEEN_TRIES = 60.0
_MOST_COMMIT_BYTES = 16 << 20
_HEX = frozenset("0123456789abcdef")
_Value = TypeVar("_Value")
_Arguments = ParamSpec("_Arguments")

_log = logging.getLogger(__name__)


@final
class ObjectStore:
    """Entries in a bucket, as `<kind>/<kk>/<key>/<writer>/<file>` and one commit object.

    A commit object is written last, only if there is none, and names the folder whose
    files it seals. So a reader finds an entry whole or not at all; of two writers of one
    key each has a folder of its own, and whoever commits second takes back what it sent.
    On a store that cannot create conditionally, such as Swift's S3 interface, they look
    before they commit; of two that look at once the later commit wins, which is whole too,
    and the files of the earlier stay behind.

    A bucket that cannot be reached costs time, not samples: it is said, and for a minute
    nobody asks again.

    Args:
        url: Such as `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///…`.
        options: Of that store, such as `endpoint` and `region`. Secrets come from the
            environment, under the names that its own tools use.

    Raises:
        CacheError: if the URL or an option means nothing to obstore.
    """

    __slots__ = ("_asleep_until", "_bucket", "_can_create", "_failures", "options", "url")

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url
        self._failures = 0
        self._asleep_until = 0.0
        self._can_create = True
        self.options = dict(options)
        self._bucket = _open(url, dict(options))

    @property
    def failures(self) -> int:
        """How often the bucket could not be reached."""
        return self._failures

    def fetch(self, kind: Kind, key: str, into: Path) -> Commit | None:
        """Bring the files of an entry into a folder; `None` if there is no such entry.

        The caller compares the files with the commit: nothing here is trusted.

        Raises:
            OSError: if the folder cannot be written.
        """
        place = _place(kind, key)
        content = self._try(self._get, f"{place}/{COMMIT_FILE}", _MOST_COMMIT_BYTES)
        if content is None:
            return None
        try:
            folder, commit = _unsealed(content, kind, key)
        except Damaged as error:
            _log.warning("%s/%s: %s", self.url, place, error)
            self.discard(kind, key)
            return None
        for name, fact in commit.files.items():
            content = self._try(self._get, f"{place}/{folder}/{name}", fact.size)
            if content is None:
                self.discard(kind, key)
                return None
            target = into / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(content)
        return commit

    def send(self, directory: Path, commit: Commit, kind: Kind, key: str) -> bool:
        """Store an entry, its commit object last; false if it is there or cannot be sent."""
        place = _place(kind, key)
        seal = f"{place}/{COMMIT_FILE}"
        if self._try(self._has, seal) is not False:
            return False
        folder = secrets.token_hex(8)
        names = [f"{place}/{folder}/{name}" for name in commit.files]
        values = {"format": FORMAT, "folder": folder, "commit": json.loads(commit.to_json())}
        sealed = json.dumps(values).encode()

        def send() -> bool:
            for name, path in zip(commit.files, names, strict=True):
                self._put(path, read_file(directory / name))
            # Ours may be there already: a lost answer makes the client ask twice.
            return self._create(seal, sealed) or self._get(seal, len(sealed)) == sealed

        try:
            is_first = self._try(send)
        except FileNotFoundError:
            is_first = False  # evicted here while it was sent
        if is_first is False:  # and not where nobody knows whether the commit arrived
            self._try(self._delete, names)
        return bool(is_first)

    def discard(self, kind: Kind, key: str) -> None:
        """Take away the commit object of a damaged entry, so that it is stored again."""
        _log.warning("%s/%s of %s is damaged; it will be made again", kind, key, self.url)
        self._try(self._delete, [f"{_place(kind, key)}/{COMMIT_FILE}"])

    def _try(
        self,
        action: Callable[_Arguments, _Value],
        *given: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Value | None:
        """What an action gives, or `None` if the bucket cannot be reached now."""
        if time.monotonic() < self._asleep_until:
            return None
        try:
            return action(*given, **named)
        except BaseError as error:
            self._failures += 1
            self._asleep_until = time.monotonic() + SECONDS_BETWEEN_TRIES
            reason = str(error).partition("\n")[0]
            _log.warning(
                "%s cannot be used, so this cache goes on without it for %.0f s: %s",
                self.url,
                SECONDS_BETWEEN_TRIES,
                reason,
            )
            return None

    def _get(self, path: str, most: int) -> bytes | None:
        try:
            found = self._bucket.get(path)
        except FileNotFoundError:
            return None
        # Before a byte is fetched: nobody shall make us hold more than the commit says.
        return bytes(found.bytes()) if found.meta["size"] <= most else None

    def _has(self, path: str) -> bool:
        try:
            self._bucket.head(path)
        except FileNotFoundError:
            return False
        return True

    def _put(self, path: str, content: bytes) -> None:
        self._bucket.put(path, content)

    def _create(self, path: str, content: bytes) -> bool:
        if self._can_create:
            try:
                self._bucket.put(path, content, mode="create")
            except AlreadyExistsError:
                return False
            except (NotSupportedError, NotImplementedError):  # switched off by an option
                self._can_create = False
            except GenericError as error:
                if not _is_not_implemented(error):
                    raise
                self._can_create = False  # such an answer is tried again and again: never ask twice
            else:
                return True
            _log.info("%s creates nothing conditionally; the later of two commits wins", self.url)
        if self._has(path):
            return False
        self._put(path, content)
        return True

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            try:
                self._bucket.delete(path)
            except FileNotFoundError:
                continue


def _is_not_implemented(error: GenericError) -> bool:
    """Whether a server said 501: obstore has no class of its own for that."""
    return "501 Not Implemented" in str(error)


def _place(kind: Kind, key: str) -> str:
    check_key(key)
    return f"{kind}/{key[:2]}/{key}"


def _unsealed(content: bytes, kind: Kind, key: str) -> tuple[str, Commit]:
    """Folder and commit of a commit object.

    Raises:
        Damaged: if it is anything else.
    """
    try:
        values = json.loads(content)
        folder, commit = values["folder"], json.dumps(values["commit"]).encode()
    except (ValueError, KeyError, TypeError) as error:
        msg = "it cannot be read"
        raise Damaged(msg) from error
    if values["format"] != FORMAT or not isinstance(folder, str) or not set(folder) <= _HEX:
        msg = "it has another format"
        raise Damaged(msg)
    return folder, Commit.from_json(commit, kind, key)


def _open(url: str, options: dict[str, Any]) -> Bucket:
    if url.startswith(("s3:", "gs:", "az:", "http")):
        # obstore would try for three minutes while a training step waits.
        patience = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
        options = {"retry_config": patience, **options}
        if str(options.get("endpoint", "")).startswith("http:"):
            options.setdefault("client_options", {"allow_http": True})
    try:
        return from_url(url, **options)
    except (BaseError, ValueError, TypeError) as error:
        msg = f"remote {url!r} cannot be used: {str(error).partition(chr(10))[0]}"
        raise CacheError(msg) from error
