"""Manifest: one row for each sample of a run, rebuilt from its events."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path
from typing import Any
from typing import final

from ..errors import DataError
from ..provenance import Provenance
from ..whole_file import replacing
from .events import Chain
from .events import Event

NAME = "manifest.parquet"
SCHEMA_VERSION = "1"
# Beside the fields of Provenance and one column `voxels_<id>` for each label.
_COLUMNS: Mapping[str, str] = {
    "epoch": "int32",
    "position": "int32",
    "step": "int64",
    "rank": "int32",
    "worker": "int32",
    "pid": "int64",
    "planned": "string",
    "index": "int64",
    "view_seed": "int64",
    "asked": "float64",
    "delivered": "float64",
    "seconds": "float64",
    "loads": "int32",
    "line": "int64",
}
_TYPES = {"int": "int64", "str": "string", "float": "float64"}


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The samples of a run, in the order of the plan.

    A sample that was loaded twice, as the ones on their way are when a run is resumed,
    has one row, the last one, and says in `loads` how often it was loaded.

    Args:
        rows: One for each sample: the fields of its provenance, where it stood (`epoch`,
            `position`, `step` of the run, `rank`, `worker`, `pid`), what was `planned`, the
            share of synthetic samples that was `asked` in its step and was `delivered`
            there, `seconds` to load it, `labels` with voxels by id, and the `line` of its event.
        settings: What the run was asked to do, as its first event says.
        items: Events of the volumes and cases by uid, with their fingerprints.
        chain: The events.
    """

    rows: tuple[dict[str, Any], ...]
    settings: Mapping[str, Any]
    items: Mapping[str, Event]
    chain: Chain

    @classmethod
    def of(cls, chain: Chain) -> Manifest:
        """The manifest of a run's events."""
        settings: Mapping[str, Any] = next(
            (e["settings"] for e in chain.events if e["kind"] == "run"), {}
        )
        items: dict[str, Event] = {}
        last: dict[tuple[int, int], Event] = {}
        loads: dict[tuple[int, int], int] = {}
        for event in chain.events:
            if event["kind"] == "item":
                items.setdefault(event["uid"], event)
            elif event["kind"] == "sample":
                place = (event["epoch"], event["position"])
                last[place] = event
                loads[place] = loads.get(place, 0) + 1
        rows = [_row(last[place], items, loads[place]) for place in sorted(last)]
        _deliver(rows)
        return cls(tuple(rows), settings, items, chain)

    def write(self, folder: Path) -> Path:
        """Write `manifest.parquet` there; it appears whole or not at all.

        The metadata of the file names the events it was built from (`events_lines` and the
        SHA-256 of the last one in `events_head`), and whether their chain was whole.

        Raises:
            DataError: without pyarrow, or if the folder cannot be written.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            msg = f"{NAME} needs pyarrow; run `pip install 'nvgen_aug[study]'`"
            raise DataError(msg) from error
        columns, types = self._columns()
        schema = pyarrow.schema(
            [(name, pyarrow.type_for_alias(kind)) for name, kind in types.items()],
            metadata={
                "schema_version": SCHEMA_VERSION,
                "events_head": self.chain.head,
                "events_lines": str(len(self.chain.events)),
                "chain_is_whole": str(not self.chain.breaks).lower(),
            },
        )
        path = folder / NAME
        try:
            with replacing(path) as partial:
                table = pyarrow.table(columns, schema=schema)
                pyarrow.parquet.write_table(table, partial, compression="zstd")
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror or error}; choose another folder"
            raise DataError(msg) from error
        return path

    def _columns(self) -> tuple[dict[str, list[Any]], dict[str, str]]:
        ids = sorted({int(i) for row in self.rows for i in row["labels"]})
        types = {
            **_COLUMNS,
            **{field.name: _TYPES[str(field.type)] for field in fields(Provenance)},
            **{f"voxels_{i}": "int64" for i in ids},
        }
        columns = {
            name: [row[name] for row in self.rows] for name in types if not name.startswith("vox")
        }
        for i in ids:
            columns[f"voxels_{i}"] = [row["labels"].get(str(i), 0) for row in self.rows]
        return columns, types


def share_of_synthetic(rows: Iterable[Mapping[str, Any]]) -> tuple[int, int, float]:
    """Samples, synthetic ones among them, and the share that was asked for on average."""
    samples = synthetic = 0
    asked = 0.0
    for row in rows:
        samples += 1
        synthetic += row["source"] == "synthetic"
        asked += row["asked"]
    return samples, synthetic, asked / samples if samples else 0.0


def _row(event: Event, items: Mapping[str, Event], loads: int) -> dict[str, Any]:
    item = items.get(event["uid"], {})
    row: dict[str, Any] = {
        field.name: event.get(field.name, item.get(field.name, field.default))
        for field in fields(Provenance)
    }
    row |= {name: event[name] for name in _COLUMNS if name in event}
    return {**row, "labels": event["labels"], "loads": loads, "line": event["n"]}


def _deliver(rows: list[dict[str, Any]]) -> None:
    steps: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        steps.setdefault(row["step"], []).append(row)
    for together in steps.values():
        samples, synthetic, _ = share_of_synthetic(together)
        for row in together:
            row["delivered"] = synthetic / samples
