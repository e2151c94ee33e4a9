"""Provenance: where a sample came from, as one flat record."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from typing import Any
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Provenance:
    """A flat record that every sample carries, real ones too.

    Nothing is ever `None`: an absent text is empty, since MONAI's collation
    drops or refuses `None`. The record says how a sample is determined, not
    how it was come by this time (cache or generator), so that a second run
    gives the same bytes; hits and waits are in the reports.

    Args:
        source: `"synthetic"` or `"real"`.
        uid: Volume key of a synthetic sample, case id of a real one.
        variant: Name of the model.
        weights_digest: SHA-256 of its weights.
        generator: Generator and its revision.
        spec: The resolved `VolumeSpec` as JSON.
        seed: The spec's seed.
        mask_source: Where the label came from: `"drawn"`, or the digest of a mask and, after a
            colon, what was changed in it.
        mask_parent: What the label was made from: the name of a template, or the digest of a mask
            that was changed; empty for one that was taken as it is, whose parent is known to the
            caller alone.
        image_source: Digest of the image whose subject the volume shows, and what its voxels were
            multiplied by if their unit was another; empty if it shows nobody in particular.
        quality: Checks that the volume has passed, such as `"finite"`; for one outside the
            training data also what it failed.
        attempts: How often it was made until it passed.
        retry_seed: What it was drawn from in place of the spec's seed if that was more than once.
        content: SHA-256 of the voxels that were delivered, before any transform, as
            `SyntheticVolume.digest` has it; empty for a real sample.
        crop: `"x,y,z+sx,sy,sz"` if only a part was delivered.
        status: `"planned"`, `"substitute"` after a failure, or `"repeated"` for a real case
            in the place of a synthetic one.
        stratum: Which kind of volume was asked for, such as `"lesion < 10 mm"`; empty
            where there are no strata.
        reuse: How often this volume was used before in the plan.
        licence: Licence of the weights, or of nothing.
        version: Version of this package that made the volume.
        out_of_distribution: In what a volume lies outside its model's training data, if it was
            asked for all the same.
    """

    source: str
    uid: str
    variant: str = ""
    weights_digest: str = ""
    generator: str = ""
    spec: str = ""
    seed: int = 0
    mask_source: str = ""
    mask_parent: str = ""
    quality: str = ""
    content: str = ""
    crop: str = ""
    status: str = "planned"
    stratum: str = ""
    reuse: int = 0
    licence: str = ""
    version: str = ""
    out_of_distribution: str = ""
    image_source: str = ""
    attempts: int = 1
    retry_seed: int = 0

    def to_json(self) -> str:
        """The record as one line of canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """The record that `to_json` wrote; fields of later versions are dropped."""
        values: dict[str, Any] = json.loads(text)
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def with_(self, **changes: Any) -> Provenance:
        """The same record with some fields changed."""
        return replace(self, **changes)
