"""Schedule text: a schedule in one word, as `--ratio` takes it and `str` writes it."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from .errors import RatioError
from .errors import did_you_mean
from .schedule import Constant
from .schedule import Cosine
from .schedule import Linear
from .schedule import Piecewise
from .schedule import Schedule
from .share import share

FORMS = {
    "constant": "`0.3` or `3/10`, and a changing one for instance `linear:0:0.5:epochs=10`",
    "linear": "`linear:0:0.5:epochs=10`",
    "cosine": "`cosine:0.5:0:steps=2000`",
    "piecewise": "`piecewise:epochs:0=0.5,50=0.25,80=0`",
}


def schedule_from_text(text: str) -> Schedule:
    """The schedule that a text means; `schedule_from_text(str(schedule)) == schedule`.

    A number or a fraction is a constant share. Others begin with their kind:
    `linear:START:END:epochs=N`, `cosine:START:END:steps=N`, and
    `piecewise:epochs:BEGIN=SHARE,BEGIN=SHARE`, where a share may be a linear or
    cosine text of the same unit.

    Raises:
        RatioError: for any other text, with the form that was expected.
    """
    kind, has_parts, rest = text.strip().partition(":")
    if not has_parts:
        return Constant(share(_number(text, "constant"), "ratio"))
    if kind in ("linear", "cosine"):
        return _ramp(kind, rest)
    if kind == "piecewise":
        return _piecewise(rest)
    msg = f"there is no schedule `{kind}`; {did_you_mean(kind, ('linear', 'cosine', 'piecewise'))}"
    raise RatioError(msg)


def _ramp(kind: str, text: str) -> Schedule:
    parts = text.split(":")
    if len(parts) != 3:
        raise _not(kind, f"{kind}:{text}")
    start, end = (_number(part, kind) for part in parts[:2])
    name, _, number = parts[2].partition("=")
    make = Linear if kind == "linear" else Cosine
    if _unit(name, kind, text) == "epochs":
        return make(start, end, epochs=_integer(number, kind))
    return make(start, end, steps=_integer(number, kind))


def _piecewise(text: str) -> Schedule:
    unit, _, rest = text.partition(":")
    pieces = []
    for piece in rest.split(","):
        begin, is_piece, what = piece.partition("=")
        if not is_piece:
            raise _not("piecewise", f"piecewise:{text}")
        pieces.append((_integer(begin, "piecewise"), schedule_from_text(what)))
    if _unit(unit, "piecewise", text) == "epochs":
        return Piecewise(epochs=pieces)
    return Piecewise(steps=pieces)


def _unit(word: str, kind: str, text: str) -> Literal["epochs", "steps"]:
    if word == "epochs":
        return "epochs"
    if word == "steps":
        return "steps"
    raise _not(kind, f"{kind}:{text}")


def _number(text: str, kind: str) -> Fraction:
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise _not(kind, text) from None


def _integer(text: str, kind: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _not(kind, text) from None


def _not(kind: str, text: str) -> RatioError:
    msg = f"a {kind} share is written {FORMS[kind]}, got `{text}`"
    return RatioError(msg)
