"""`nvgen-aug cache stats`: what a cache folder holds."""

from __future__ import annotations

from ..terminal import answer
from ..terminal import hint
from .folder import Folder
from .folder import existing


def stats(folder: Folder) -> None:
    """Print how many volumes, latents and uploads a cache holds, and their bytes.

    Below the sum stand those of them that have no valid commit file (damaged), what is
    no entry any more, set aside as damaged (quarantined), or not yet whole (partial), and
    those of the sum that are never evicted (pinned).
    Only commit files are read; `nvgen-aug cache verify` reads everything.

    \b
    Example:
      nvgen-aug cache stats cache/
    """
    from ...cache import KindStats  # heavy, and --help does without it
    from ...cache import Upkeep

    held = Upkeep(existing(folder), read_only=True).stats()
    parts = {
        **held.by_kind,
        "all": KindStats(held.entries, held.bytes),
        "damaged": held.unsealed,
        "quarantined": held.quarantined,
        "partial": held.partial,
        "pinned": held.pinned,
    }
    rows = [("kind", "entries", "bytes")]
    rows += [(name, str(part.entries), str(part.bytes)) for name, part in parts.items()]
    answer([f"{kind:<12}{entries:>8}{size:>16}" for kind, entries, size in rows])
    if held.unsealed.entries:
        hint(f"nvgen-aug cache verify {folder} sets aside what is damaged")
    elif held.quarantined.entries:
        hint(f"nvgen-aug cache gc {folder} deletes what was set aside")
    elif not held.entries:
        hint(f"nothing is there yet: nvgen-aug cache warm {folder} --variant tiny-brain --num 64")
