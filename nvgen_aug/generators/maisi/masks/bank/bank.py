"""MaskBank: masks to choose from; each spec without a mask is bound to one, by its seed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Final
from typing import final

from .....card import VariantCard
from .....errors import DataError
from .....errors import SpecError
from .....spec import VolumeSpec
from .....volume import Blob
from .....whole_file import replacing
from ...streams import BANK
from ...streams import chance
from ...vocabulary import BODY_REGIONS
from ..fitting import has_grid
from .choice import choices
from .choice import wish_of
from .entry import BankEntry
from .files import MaskFiles

INDEX_NAME: Final = "nvgen-masks.json"
FORMAT: Final = "nvgen-masks"
VERSION: Final = 1


@final
class MaskBank:
    """The index of a folder or archive of masks, and the way to the masks themselves.

    To choose a mask nothing is read but the index, so that a spec is bound in milliseconds; the
    mask itself is read when the volume is made. Processes may share an index: nobody writes it.

    Args:
        variant: Whose vocabulary the masks use.
        vocabulary: Its label names and ids.
        place: Folder or zip archive with the masks.
        entries: What is known of each.
        files: The same place, if it is open already.
    """

    def __init__(
        self,
        variant: str,
        vocabulary: Mapping[str, int],
        place: Path,
        entries: tuple[BankEntry, ...],
        files: MaskFiles | None = None,
    ) -> None:
        self.variant = variant
        self.vocabulary = vocabulary
        self.place = place
        self.entries = entries
        self._files = files
        # By content: neither the folder's order nor its names decide what a seed gets.
        self._by_digest = {e.digest: e for e in sorted(entries, key=lambda entry: entry.digest)}
        self.digest = hashlib.sha256("\n".join([variant, *self._by_digest]).encode()).hexdigest()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MaskBank:
        """The bank of an index, or of a folder with one in it.

        Raises:
            DataError: There is no index, or it cannot be read.
        """
        file = Path(path)
        if file.is_dir():
            file = file / INDEX_NAME
        elif file.suffix == ".zip":
            file = index_beside(file)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            msg = f"there is no index {file}; make it once: nvgen-aug masks index {path}"
            raise DataError(msg) from error
        except (OSError, ValueError) as error:
            msg = f"cannot read the index {file}: {error}; make it again: nvgen-aug masks index"
            raise DataError(msg) from error
        if isinstance(values, list):
            msg = f"{file} is a list of masks; index it once: nvgen-aug masks index {file}"
            raise DataError(msg)
        try:
            if (values["format"], values["version"]) != (FORMAT, VERSION):
                msg = f"{file} is no index of masks of version {VERSION}; make it again"
                raise DataError(msg)
            return cls(
                variant=str(values["variant"]),
                vocabulary={str(name): int(i) for name, i in values["vocabulary"].items()},
                place=file.parent / values["files"],
                entries=tuple(BankEntry.from_values(entry) for entry in values["masks"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            msg = f"the index {file} is damaged ({error!r}); make it again: nvgen-aug masks index"
            raise DataError(msg) from error

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all.

        Raises:
            DataError: The folder cannot be written.
        """
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "variant": self.variant,
            "vocabulary": dict(self.vocabulary),
            # From the index on, so that both can be moved together.
            "files": os.path.relpath(self.place.absolute(), path.absolute().parent),
            "masks": [entry.values() for entry in self.entries],
        }
        text = json.dumps(values, sort_keys=True, ensure_ascii=False)
        try:
            with replacing(path) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            msg = f"cannot write the index {path}: {error.strerror}; choose another with --out"
            raise DataError(msg) from error

    def card(self, card: VariantCard) -> VariantCard:
        """The card of a source that binds specs to this bank.

        Raises:
            SpecError: The variant follows no masks, or its ids mean something else.
        """
        if not card.has_labels:
            msg = f"`{card.name}` makes images alone and cannot follow masks; leave the bank out"
            raise SpecError(msg)
        used = {name for entry in self.entries for name in entry.labels}
        odd = sorted(n for n in used if card.vocabulary.get(n) != self.vocabulary.get(n))
        if odd:
            msg = (
                f"the bank {self.place} was indexed for `{self.variant}`, whose {odd[:4]} are "
                f"other ids in `{card.name}`, or none; index it with --variant {card.name}"
            )
            raise SpecError(msg)
        regions = BODY_REGIONS if any(entry.region for entry in self.entries) else ()
        return replace(
            card,
            draws_labels=True,
            mask_bank=self.digest,
            body_regions=card.body_regions or regions,
            default_body_region=None,
        )

    def bound(self, spec: VolumeSpec, card: VariantCard) -> VolumeSpec:
        """The spec with a mask of this bank; one that names a mask, or has one drawn, stays.

        The region of the body is asked of the mask and then read from it, so it leaves the spec.

        Args:
            spec: What is wanted, unresolved or not.
            card: As `card` made it.

        Raises:
            SpecError: No mask fits.
        """
        if not card.binds_mask(spec):
            return spec
        spec = card.resolve(spec)
        found = choices(list(self._by_digest.values()), wish_of(spec, card), str(self.place))
        entry = found[int(chance(spec.seed, BANK).integers(len(found)))]
        return replace(
            spec,
            mask=entry.digest,
            fit_mask=not has_grid(entry.size, entry.spacing, spec),
            body_region=None,
        )

    def blob(self, digest: str) -> Blob | None:
        """The mask of this digest; `None` if the bank has none.

        Raises:
            DataError: It was changed since it was indexed, or cannot be read.
        """
        entry = self._by_digest.get(digest)
        if entry is None:
            return None
        if self._files is None:
            self._files = MaskFiles(self.place)
        blob = self._files.read(entry.name).blob
        if blob.digest() != digest:
            msg = (
                f"the mask `{entry.name}` of the bank {self.place} was changed since it was "
                "indexed; run `nvgen-aug masks index` again"
            )
            raise DataError(msg)
        return blob


def index_beside(place: Path) -> Path:
    """Where the index of a folder, an archive or a candidate list lies if nothing else is said."""
    return place / INDEX_NAME if place.is_dir() else place.with_suffix(f".{INDEX_NAME}")
