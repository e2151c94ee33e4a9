"""Checkpoint sources: a folder that NV-Generate downloaded to, or Hugging Face at one commit."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from typing import final

from huggingface_hub import HfApi
from huggingface_hub import ModelInfo
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.errors import GatedRepoError
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling

from ...errors import WeightsError
from ...errors import did_you_mean
from .releases import Release
from .releases import Slot

_WEBSITE: Final = "https://huggingface.co"
_REFUSED: Final = (401, 403)


@final
@dataclass(frozen=True, slots=True)
class Fetched:
    """A checkpoint that lies on this machine.

    Attributes:
        path: Where.
        origin: What a manifest says of it.
        sha256: What its publisher says of it, or `None`.
    """

    path: Path
    origin: str
    sha256: str | None = None


class CheckpointSource(ABC):
    """Where the checkpoints of a release come from."""

    @abstractmethod
    def has(self, slot: Slot) -> bool:
        """Whether the file is there to be fetched."""

    @abstractmethod
    def size(self, slot: Slot) -> int:
        """Bytes that getting it takes on this disk, 0 if it is here already."""

    @abstractmethod
    def fetch(self, slot: Slot) -> Fetched:
        """The checkpoint, on this machine.

        Raises:
            WeightsError: It cannot be had.
        """

    def origin(self, slot: Slot) -> str:
        """What a manifest says of it; the same text means the same bytes, or is empty."""
        return ""

    def discard(self, fetched: Fetched) -> None:
        """It is not needed any more."""

    @property
    def revisions(self) -> Mapping[str, str]:
        """Commit of each repository that was read."""
        return {}


@final
class FolderSource(CheckpointSource):
    """A folder with the released files, below `models/` and `datasets/` or right in it."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            msg = f"there is no folder {folder}; give the one that NV-Generate downloaded to"
            raise WeightsError(msg)
        self._folder = folder

    def has(self, slot: Slot) -> bool:
        """Whether the file lies in one of its places."""
        return self._place(slot) is not None

    def size(self, slot: Slot) -> int:
        """Nothing: it is here."""
        return 0

    def fetch(self, slot: Slot) -> Fetched:
        """The file of the slot."""
        if place := self._place(slot):
            return Fetched(place, str(place.absolute()))
        here = [
            path.name for pattern in ("*.pt", "models/*.pt") for path in self._folder.glob(pattern)
        ]
        near = f"; {did_you_mean(Path(slot.path).name, here)}" if here else ""
        msg = f"{self._folder} has no `{slot.path}`, which is the {slot.network}{near}"
        raise WeightsError(msg)

    def _place(self, slot: Slot) -> Path | None:
        places = (self._folder / slot.path, self._folder / Path(slot.path).name)
        return next((place for place in places if place.is_file()), None)


@final
class HubSource(CheckpointSource):
    """The repositories of a release on Hugging Face, each at one commit.

    Args:
        release: Which repositories.
        downloads: Folder to download to; what is whole there is not fetched again.
        revisions: Commit of a repository. The newest is looked up where none is given, and then
            holds for all its files.

    Raises:
        WeightsError: A repository cannot be read.
    """

    def __init__(
        self, release: Release, downloads: Path, revisions: Mapping[str, str] | None = None
    ) -> None:
        self._downloads = downloads
        self._infos: dict[str, ModelInfo] = {}
        given = dict(revisions or {})
        repositories = dict.fromkeys(slot.repository for slot in release.slots)
        if strange := sorted(given.keys() - repositories.keys()):
            msg = f"no file comes from `{strange[0]}`; {did_you_mean(strange[0], repositories)}"
            raise WeightsError(msg)
        for name in repositories:
            with _explained(name, release):
                self._infos[name] = HfApi().model_info(
                    name, revision=given.get(name), files_metadata=True
                )
        self._release = release

    @property
    def revisions(self) -> Mapping[str, str]:
        """Commit of each repository."""
        return {name: str(info.sha) for name, info in self._infos.items()}

    def origin(self, slot: Slot) -> str:
        """Repository, commit and path."""
        return f"{slot.repository}@{self.revisions[slot.repository]}/{slot.path}"

    def has(self, slot: Slot) -> bool:
        """Whether the repository lists the file."""
        return self._listed(slot) is not None

    def size(self, slot: Slot) -> int:
        """Bytes of the file, 0 if it was fetched already or the size is not told."""
        if (self._downloads / slot.path).is_file():
            return 0
        file = self._listed(slot)
        return (file.size or 0) if file else 0

    def fetch(self, slot: Slot) -> Fetched:
        """The file of the slot, downloaded; an interrupted download goes on."""
        info = self._infos[slot.repository]
        with _explained(slot.repository, self._release):
            path = hf_hub_download(
                slot.repository, slot.path, revision=info.sha, local_dir=self._downloads
            )
        file = self._listed(slot)
        lfs = file.lfs if file else None
        return Fetched(Path(path), self.origin(slot), lfs.sha256 if lfs else None)

    def discard(self, fetched: Fetched) -> None:
        """Delete the download."""
        fetched.path.unlink(missing_ok=True)

    def _listed(self, slot: Slot) -> RepoSibling | None:
        files = self._infos[slot.repository].siblings or []
        return next((file for file in files if file.rfilename == slot.path), None)


@contextmanager
def _explained(repository: str, release: Release) -> Iterator[None]:
    """Turn the hub's errors into what a person can do."""
    page = f"{_WEBSITE}/{repository}"
    try:
        yield
    except WeightsError:
        raise
    except RevisionNotFoundError as error:
        msg = f"`{repository}` has no such revision; choose a commit from {page}/commits/main"
        raise WeightsError(msg) from error
    except EntryNotFoundError as error:
        msg = f"`{repository}` lacks a file of this release ({error}); see {page}"
        raise WeightsError(msg) from error
    # Not being let in and not being there look alike from outside.
    except (GatedRepoError, RepositoryNotFoundError, HfHubHTTPError) as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if not isinstance(error, GatedRepoError | RepositoryNotFoundError) and code not in _REFUSED:
            msg = f"{page} answered {code}; try again later, or import with --from a folder"
            raise WeightsError(msg) from error
        msg = (
            f"`{repository}` does not let you in ({code}): accept the "
            f"{release.licence.name} at {page}, then log in with `hf auth login` and try again"
        )
        raise WeightsError(msg) from error
    # Which class says "no network" depends on the hub's version and on its HTTP library.
    except Exception as error:
        first = str(error).partition("\n")[0]
        msg = (
            f"{_WEBSITE} cannot be reached ({type(error).__name__}: {first}); go online, or fetch "
            "the files elsewhere and import with --from their folder"
        )
        raise WeightsError(msg) from error
