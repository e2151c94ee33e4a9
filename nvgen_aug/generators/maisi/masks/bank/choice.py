"""Choice: which masks of a bank can be what a spec asks for, and which of them it gets.

The criteria and the score are those of NV-Generate (`find_masks`, `find_closest_masks`), but for
two: nothing is read to see whether a label survives, its box tells; and not only the five nearest
are drawn from, but all that are hardly farther away, so that a run does not see five masks alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final
from typing import final

from .....card import VariantCard
from .....errors import SpecError
from .....spec import VolumeSpec
from ...vocabulary import BODY_REGIONS
from ..fitting import has_grid
from .entry import BankEntry

# A mask with so many voxels less than asked for, along any axis, is too small to be padded.
_TOO_SMALL: Final = 128
_NEAREST: Final = 5
# How much farther than the nearest a mask may be: 50 mm of field of view, or 5 mm of spacing.
_MARGIN: Final = 5.0


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """What a spec asks of a mask.

    Attributes:
        anatomy: Names of labels that must be in it.
        hosts: For each tumour that is put in, the names of the organs that it can grow in.
        tumours: All names of tumours; those that are not asked for must not be there.
        spec: The spec, with size and spacing.
    """

    anatomy: tuple[str, ...]
    hosts: Mapping[str, frozenset[str]]
    tumours: frozenset[str]
    spec: VolumeSpec

    def __str__(self) -> str:
        asked = [f"`{name}`" for name in self.anatomy]
        asked += [f"a place for `{name}`" for name in self.hosts]
        if self.spec.body_region is not None:
            asked.append(" to ".join(dict.fromkeys(self.spec.body_region)))
        return f"{', '.join(asked) or 'any labels'} at {_grid(self.spec.size, self.spec.spacing)}"


def choices(entries: Sequence[BankEntry], wish: Wish, where: str) -> list[BankEntry]:
    """The masks that a spec may get, all alike; those of its own grid alone if there are any.

    Raises:
        SpecError: None fits; with what was asked, how many failed in what, and the nearest.
    """
    failures = {entry.digest: _failure(entry, wish) for entry in entries}
    fitting = [entry for entry in entries if failures[entry.digest] is None]
    exact = [entry for entry in fitting if has_grid(entry.size, entry.spacing, wish.spec)]
    if exact:
        return exact
    if not fitting:
        raise SpecError(_nothing(entries, failures, wish, where))
    scored = ((_score(entry, wish.spec), entry) for entry in fitting)
    ranked = sorted(scored, key=itemgetter(0))
    far = ranked[0][0] + _MARGIN
    return [entry for n, (score, entry) in enumerate(ranked) if n < _NEAREST or score <= far]


def wish_of(spec: VolumeSpec, card: VariantCard) -> Wish:
    """What a spec of a card asks of a mask; labels by the vocabulary's own names."""
    put_in = {card.canonical(name) for name, _ in spec.pathology}
    anatomy = {card.canonical(name) for name in spec.anatomy} - put_in
    return Wish(
        anatomy=tuple(sorted(anatomy)),
        hosts={name: frozenset(card.hosts[name]) for name in sorted(put_in)},
        tumours=frozenset(card.pathology),
        spec=spec,
    )


# Each: whether a mask fails, and in what; in the order in which they are looked at.
_Test = Callable[[BankEntry, Wish], str | None]


def _lacks(entry: BankEntry, wish: Wish) -> str | None:
    absent = [name for name in wish.anatomy if name not in entry.labels]
    return f"lack {', '.join(f'`{name}`' for name in absent)}" if absent else None


def _has_no_host(entry: BankEntry, wish: Wish) -> str | None:
    homeless = [n for n, organs in wish.hosts.items() if organs.isdisjoint(entry.labels)]
    return f"have no place for {', '.join(f'`{n}`' for n in homeless)}" if homeless else None


def _has_others(entry: BankEntry, wish: Wish) -> str | None:
    is_strange = any(n in entry.labels for n in wish.tumours if n not in wish.anatomy)
    return "show tumours that were not asked for" if is_strange else None


def _is_elsewhere(entry: BankEntry, wish: Wish) -> str | None:
    asked = wish.spec.body_region
    if asked is None:
        return None
    if entry.region is None:
        return "show no region of the body"
    first, last, top, bottom = (BODY_REGIONS.index(name) for name in (*asked, *entry.region))
    if top <= first and last <= bottom:
        return None
    return f"do not reach from {asked[0]} to {asked[1]}"


def _is_small(entry: BankEntry, wish: Wish) -> str | None:
    assert wish.spec.size is not None
    if has_grid(entry.size, entry.spacing, wish.spec):
        return None
    short = any(n <= m - _TOO_SMALL for n, m in zip(entry.size, wish.spec.size, strict=True))
    return f"are {_TOO_SMALL} voxels too small" if short else None


def _is_cut(entry: BankEntry, wish: Wish) -> str | None:
    if has_grid(entry.size, entry.spacing, wish.spec):
        return None
    lost = [name for name in wish.anatomy if not _stays(entry, name, wish)]
    lost += [
        name
        for name, organs in wish.hosts.items()
        if not any(_stays(entry, organ, wish) for organ in organs & set(entry.labels))
    ]
    return f"would lose {', '.join(f'`{name}`' for name in lost)} when resampled" if lost else None


_TESTS: Final[tuple[_Test, ...]] = (
    _lacks,
    _has_no_host,
    _has_others,
    _is_elsewhere,
    _is_small,
    _is_cut,
)


def _failure(entry: BankEntry, wish: Wish) -> tuple[int, str] | None:
    for number, test in enumerate(_TESTS):
        if (why := test(entry, wish)) is not None:
            return number, why
    return None


def _stays(entry: BankEntry, name: str, wish: Wish) -> bool:
    """Whether a label is still there on the grid of the spec.

    A tumour is whole inside and at least a voxel thick, so that no voxel can miss it; of an organ
    the middle is inside.
    """
    spec = wish.spec
    assert spec.size is not None
    assert spec.spacing is not None
    for (low, high), n, mm in zip(entry.box_mm(name), spec.size, spec.spacing, strict=True):
        half = n * mm / 2
        if name in wish.tumours:
            if low < -half or high > half or high - low < mm:
                return False
        elif not -half <= (low + high) / 2 <= half:
            return False
    return True


def _score(entry: BankEntry, spec: VolumeSpec) -> float:
    assert spec.size is not None
    assert spec.spacing is not None
    return sum(
        abs(n * mm - m * asked) / 10 + abs(n - m) / 100 + abs(mm - asked)
        for n, mm, m, asked in zip(entry.size, entry.spacing, spec.size, spec.spacing, strict=True)
    )


def _nothing(
    entries: Sequence[BankEntry],
    failures: Mapping[str, tuple[int, str] | None],
    wish: Wish,
    where: str,
) -> str:
    known = {digest: failure for digest, failure in failures.items() if failure is not None}
    counts = Counter(why for _, why in known.values())
    failed = ", ".join(f"{count} {why}" for why, count in counts.most_common())
    # The one that got farthest, and of these the one whose grid is nearest.
    near = min(entries, key=lambda entry: (-known[entry.digest][0], _score(entry, wish.spec)))
    return (
        f"no mask of the bank {where} fits {wish}; of its {len(entries)}, {failed}; the nearest is "
        f"`{near.name}` of {_grid(near.size, near.spacing)}; ask for less or for another size, or "
        "index more masks"
    )


def _grid(size: Sequence[int] | None, spacing: Sequence[float] | None) -> str:
    voxels = " x ".join(map(str, size or ()))
    return f"{voxels} voxels of {' x '.join(f'{mm:g}' for mm in spacing or ())} mm"
