"""Manifest: what an installed variant consists of, each file with its SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Final
from typing import final

from ...errors import WeightsError
from ...whole_file import replacing

MANIFEST_FILE: Final = "manifest.json"
_LAYOUT: Final = 1


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One network of a variant, or the table of sizes, as it is installed.

    Attributes:
        network: Its name.
        file: In the folder of the manifest.
        sha256: Of that file.
        bytes: Of that file.
        source: The file that it was converted from.
        source_sha256: Of that file.
        ignored: Tensors of the checkpoint that the network does not have and that upstream
            ignores too.
    """

    network: str
    file: str
    sha256: str
    bytes: int
    source: str
    source_sha256: str
    ignored: int = 0


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """All parts of a variant.

    Attributes:
        variant: Its name.
        licence: Of its weights.
        parts: Its networks, and the table of sizes if there is one.
        revisions: Commit of each repository that was read.
    """

    variant: str
    licence: str
    parts: tuple[Part, ...] = ()
    revisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all parts, 64 hex digits."""
        lines = sorted(f"{part.network} {part.sha256}\n" for part in self.parts)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Of all parts together."""
        return sum(part.bytes for part in self.parts)

    def part(self, network: str) -> Part | None:
        """The part of a network."""
        return next((part for part in self.parts if part.network == network), None)

    def with_part(self, part: Part) -> Manifest:
        """The manifest with one part more, or another one for its network."""
        others = tuple(p for p in self.parts if p.network != part.network)
        return replace(self, parts=(*others, part))

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        text = json.dumps({"layout": _LAYOUT, **asdict(self)}, indent=2, sort_keys=True)
        with replacing(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest that `write` wrote.

        Raises:
            WeightsError: It is not one.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("layout") != _LAYOUT:
                msg = f"the weights at {path.parent} are of another version; import them again"
                raise WeightsError(msg)
            parts = tuple(Part(**part) for part in values.pop("parts"))
            found = cls(parts=parts, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"the manifest {path} cannot be read ({error}); import the weights again"
            raise WeightsError(msg) from error
        for part in found.parts:
            if Path(part.file).name != part.file:
                msg = f"the manifest {path} names `{part.file}`, which is no file beside it"
                raise WeightsError(msg)
        return found


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
