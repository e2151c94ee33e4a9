"""RecordFile: the record of one volume, in any of the forms in which this package leaves it."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path
from typing import Any
from typing import final

from ..errors import DataError
from ..provenance import Provenance
from .bids import SECTION
from .volume_files import VolumeFiles

_ENDINGS = (".nii.gz", ".nii", ".json")
EVENTS = "events.jsonl"


@final
@dataclass(frozen=True, slots=True)
class RecordFile:
    """Where a volume came from, and its voxels if they lie beside the record.

    Args:
        provenance: What the record says.
        files: The volume, if its files are there.
    """

    provenance: Provenance
    files: VolumeFiles | None = None

    @classmethod
    def read(cls, record: Path | str, line: int | None = None) -> RecordFile:
        """The record in a file, in a text, or in a line of a run's events.

        Args:
            record: A NIfTI file or its sidecar, a JSON file, the folder of a run or its
                events, or the JSON text itself.
            line: For a run: which line.

        Raises:
            DataError: if there is no record, or not of one volume.
        """
        if isinstance(record, str):
            return cls(_provenance(_json(record, "stdin"), "stdin"))
        if record.is_dir() or record.name == EVENTS:
            return cls(_from_events(record, line))
        if line is not None:
            msg = f"--line is for the folder of a run, and {record} is a file"
            raise DataError(msg)
        ending = next((end for end in _ENDINGS if record.name.endswith(end)), "")
        if not ending:
            msg = f"{record} must be a NIfTI file, a JSON file or the folder of a run"
            raise DataError(msg)
        sidecar = record if ending == ".json" else _sidecar(record, ending)
        try:
            text = sidecar.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            msg = f"cannot read the record {sidecar}: {reason}"
            raise DataError(msg) from error
        provenance = _provenance(_json(text, str(sidecar)), str(sidecar))
        files = VolumeFiles.beside(sidecar)
        return cls(provenance, files if files.image.exists() else None)


def _sidecar(image: Path, ending: str) -> Path:
    """The sidecar of an image or of a label, in the plain layout and in that of BIDS."""
    name = image.name.removesuffix(ending)
    if name.endswith("_dseg"):
        found = sorted(image.parent.glob(name.removesuffix("dseg") + "*.json"))
        return found[0] if found else image.with_name(f"{name}.json")
    return image.with_name(name.removesuffix("_label") + ".json")


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        msg = f"{where} is no JSON: {error}"
        raise DataError(msg) from error
    if not isinstance(values, dict):
        msg = f"{where} must hold one JSON object, got {type(values).__name__}"
        raise DataError(msg)
    return values


def _provenance(values: dict[str, Any], where: str) -> Provenance:
    values = values.get(SECTION, values)
    inner = values.get("provenance", values)
    inner = json.loads(inner) if isinstance(inner, str) else inner
    if not isinstance(inner, dict) or not {"source", "uid"} <= set(inner):
        msg = f"{where} holds no provenance: `source` and `uid` are missing"
        raise DataError(msg)
    return Provenance.from_json(json.dumps(inner))


def _from_events(run: Path, line: int | None) -> Provenance:
    from ..data.events import EventLog

    events = EventLog(run if run.is_dir() else run.parent).read().events
    if line is None:
        first = next((e["n"] for e in events if e.get("source") == "synthetic"), None)
        hint = "" if first is None else f", such as --line {first}"
        msg = f"{run} holds the records of many samples; choose one with --line{hint}"
        raise DataError(msg)
    event = next((event for event in events if event["n"] == line), None)
    if event is None or event["kind"] not in ("sample", "item"):
        kind = "no event" if event is None else f"a `{event['kind']}`"
        msg = f"line {line} of {run} is {kind}; expected a `sample` or an `item`"
        raise DataError(msg)
    item = next((e for e in events if e["kind"] == "item" and e["uid"] == event["uid"]), {})
    known = {field.name for field in fields(Provenance)}
    values = {**item, **event}
    plain = asdict(Provenance(values["source"], values["uid"]))
    return Provenance(**{**plain, **{k: v for k, v in values.items() if k in known}})
