"""`nvgen-aug weights list`: which variants are installed, and which could be."""

from __future__ import annotations

from ..meter import in_bytes
from ..terminal import answer
from ..terminal import hint
from ..terminal import say


def list_() -> None:
    """Print every variant with its weights: size, digest, licence.

    Nothing but the manifests is read; each file is compared with its digest when it
    is loaded.

    \b
    Example:
      nvgen-aug weights list
    """
    # Heavy, and --help does without them.
    from ...assembly import weights_home
    from ...errors import WeightsError
    from ...generators.maisi.installation import installed
    from ...generators.maisi.variants import VARIANTS

    home = weights_home()
    found = installed(home)
    rows = [("variant", "size", "digest", "licence")]
    for name, variant in VARIANTS.items():
        state = found.get(name)
        licence = variant.licence.text()
        if variant.release is None:
            rows.append((name, "-", "with this package", licence))
        elif state is None:
            rows.append((name, "-", "not installed", licence))
        elif isinstance(state, WeightsError):
            rows.append((name, "-", "damaged", licence))
            say(str(state))
        else:
            rows.append((name, in_bytes(state.bytes), state.digest[:16], state.licence))
    say(f"folder {home}")
    answer([f"{a:<16}{b:>10}  {c:<18}{d}" for a, b, c, d in rows])
    missing = [n for n, v in VARIANTS.items() if v.release is not None and n not in found]
    if missing:
        hint(f"nvgen-aug weights import {missing[0]}")
