"""EngineStore: built engines on disk, each under the digest of everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Final
from typing import final

from ....errors import BackendError
from ....whole_file import replacing

# Engines of one machine serve all that runs on it.
DEFAULT_FOLDER: Final = Path("~/.cache/nvgen-aug/engines").expanduser()

Shapes = tuple[tuple[int, ...], ...]


@final
@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is the engine of: if any of it changes, it is another engine.

    Attributes:
        backend: What built it and can run it.
        variant: Name of the member of the family, to read.
        part: `control`, `flow` or `decoder`.
        network: SHA-256 that names the weights, 64 hex digits.
        shapes: Of the inputs, in their order.
        precision: `fp32`, `fp16` or `bf16`.
        target: Capability of the device it runs on, such as `SM89`.
        libraries: Versions of what built it.
    """

    backend: str
    variant: str
    part: str
    network: str
    shapes: Shapes
    precision: str
    target: str
    libraries: Mapping[str, str]

    def to_json(self) -> str:
        """The key as one line of canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def name(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@final
@dataclass(frozen=True, slots=True)
class StoredEngine:
    """One engine of a store.

    Attributes:
        key: What it is the engine of.
        path: The file.
        bytes: Its size.
        seconds: How long building it took.
        weights: `given`, or `random` if the network was never trained.
    """

    key: EngineKey
    path: Path
    bytes: int
    seconds: float
    weights: str


@final
class EngineStore:
    """A folder of engines. Each is two files, of which the description comes last.

    Args:
        folder: Made when the first engine is put into it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, key: EngineKey) -> bytes | None:
        """The engine of a key, or `None` if it has not been built.

        Raises:
            BackendError: The file is not the one that was built.
        """
        description = self.folder / f"{key.name}.json"
        if not description.is_file():
            return None
        facts = _read(description)
        path = self.folder / f"{key.name}.engine"
        try:
            content = path.read_bytes()
        except OSError as error:
            msg = f"the engine at {path} cannot be read ({error}); delete {description}"
            raise BackendError(msg) from error
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            msg = (
                f"the engine at {path} ({len(content)} bytes) is damaged: its SHA-256 is not the "
                f"one in {description.name}; delete both, and it is built again"
            )
            raise BackendError(msg)
        return content

    def put(
        self, key: EngineKey, content: bytes, *, seconds: float, weights: str = "given"
    ) -> StoredEngine:
        """Keep an engine; what was there under the key is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key.name}.engine"
        with replacing(path) as partial:
            partial.write_bytes(content)
        facts = {
            "key": asdict(key),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "seconds": round(seconds, 3),
            "weights": weights,
        }
        with replacing(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", "utf-8")
        return _stored(path, facts)

    def engines(self) -> list[StoredEngine]:
        """All engines, in the order of variant, part, target and shapes."""
        found = [
            _stored(path.with_suffix(".engine"), _read(path))
            for path in self.folder.glob("*.json")
            if path.with_suffix(".engine").is_file()
        ]
        return sorted(
            found, key=lambda e: (e.key.variant, e.key.part, e.key.target, e.key.shapes, e.key.name)
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _stored(path, facts)
        facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} does not describe an engine ({error}); delete it, and it is built again"
        raise BackendError(msg) from error
    return dict(facts)


def _stored(path: Path, facts: Mapping[str, Any]) -> StoredEngine:
    values = dict(facts["key"])
    values["shapes"] = tuple(tuple(int(n) for n in shape) for shape in values["shapes"])
    return StoredEngine(
        key=EngineKey(**values),
        path=path,
        bytes=int(facts["bytes"]),
        seconds=float(facts["seconds"]),
        weights=str(facts["weights"]),
    )
