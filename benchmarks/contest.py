"""Contest: ways to do one thing, timed in turns within one run, with error and memory beside."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import final

import torch

from benchmarks.memory import peak_mib
from benchmarks.timing import Timing


@final
@dataclass(frozen=True, slots=True)
class Entrant:
    """One way to do the thing.

    Args:
        name: As in the table.
        run: What is timed. Its result is what `check` of the contest sees.
        is_ours: Whether this package does it.
        note: What a reader must know of it: settings, what is left out.
        items: How many things one run makes, for a rate; 0 for no rate.
        may_fail: Whether an exception is a result of its own ("out of memory") rather than
            the end of the benchmark; for peers only.
        prepare: What is done before each run, and not timed.
    """

    name: str
    run: Callable[[], Any]
    is_ours: bool = False
    note: str = ""
    items: int = 0
    may_fail: bool = False
    prepare: Callable[[], object] = lambda: None


@final
@dataclass(frozen=True, slots=True)
class Score:
    """What came out for one entrant.

    Args:
        name, is_ours, note, items: As the entrant's.
        timing: Seconds of the counted runs, or `None` if it failed.
        first_seconds: The first run, uncounted: compilation and first allocations are in it.
        error: What `check` said of the first run's result.
        peak_mib: Most memory above what was held before, in a run that is not timed.
        failure: Why there is no timing.
    """

    name: str
    is_ours: bool = False
    note: str = ""
    items: int = 0
    timing: Timing | None = None
    first_seconds: float | None = None
    error: float | None = None
    peak_mib: float | None = None
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what was not measured is absent."""
        values: dict[str, Any] = {"name": self.name, "is_ours": self.is_ours}
        values |= {} if self.timing is None else self.timing.to_dict()
        optional = {
            "first_seconds": self.first_seconds,
            "error": self.error,
            "peak_mib": self.peak_mib,
        }
        values |= {name: _short(value) for name, value in optional.items() if value is not None}
        texts = {"note": self.note, "failure": self.failure}
        if self.items:
            values["items"] = self.items
        return values | {name: text for name, text in texts.items() if text}


@final
@dataclass(frozen=True, slots=True)
class Standing:
    """How the entrants of one contest stand to each other.

    Args:
        title: What they did, sizes and types included.
        scores: In the order of the entrants.
        error_name: What the column of errors holds, `""` if there is none.
        item: What a run makes several of, such as `"sample"`, for the column of rates.
        x: A number for a chart over several contests, such as an edge in voxels.
        x_name: What that number is.
    """

    title: str
    scores: tuple[Score, ...]
    error_name: str = ""
    item: str = ""
    x: float | None = None
    x_name: str = ""

    def __getitem__(self, name: str) -> Score:
        """The score of an entrant; `KeyError` for another name."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)

    def seconds(self, name: str) -> float:
        """Median of an entrant; not a number if it failed."""
        timing = self[name].timing
        return float("nan") if timing is None else timing.median

    def times_faster(self, fast: str, slow: str) -> float:
        """Median of `slow` over median of `fast`."""
        return self.seconds(slow) / self.seconds(fast)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = {"title": self.title}
        if self.error_name:
            values["error_name"] = self.error_name
        if self.item:
            values["item"] = self.item
        if self.x is not None:
            values |= {"x": self.x, "x_name": self.x_name}
        return values | {"scores": [score.to_dict() for score in self.scores]}


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that was set before measuring, and the figure that came out.

    Args:
        name: What is compared, in words.
        value: What came out; `None` or not a number where this machine cannot measure it.
        limit: What it should be.
        is_most: Whether it should be at most the limit, rather than at least.
    """

    name: str
    value: float | None
    limit: float
    is_most: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the figure is on the right side of the limit; `None` without a figure."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.value <= self.limit if self.is_most else self.value >= self.limit

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "value": None if self.is_met is None or self.value is None else _short(self.value),
            "limit": self.limit,
            "most": self.is_most,
            "met": self.is_met,
        }


def hold(
    title: str,
    entrants: Sequence[Entrant],
    *,
    rounds: int,
    budget_seconds: float = math.inf,
    check: Callable[[Any], float] | None = None,
    error_name: str = "",
    device: str = "cpu",
    memory: bool = True,
    item: str = "",
    x: float | None = None,
    x_name: str = "",
) -> Standing:
    """Let every entrant run once uncounted, then all of them in turns.

    The turns are what makes a noisy machine fair: a slow minute hits all. Each round begins
    with another entrant, so that none has always the same one before it.

    Args:
        title: What they do.
        entrants: Who.
        rounds: Counted runs of each.
        budget_seconds: After this long no further round begins; one is always run.
        check: Error of a result, of each entrant's first run.
        error_name: What `check` gives, such as `"relative RMS"`.
        device: Where the work is; a GPU is waited for before the clock is read.
        memory: Whether to measure peak memory, in one more uncounted run of each.
        item, x, x_name: See `Standing`.
    """
    begin = time.monotonic()
    scores = {e.name: _first(e, title, check, device, memory) for e in entrants}
    running = [e for e in entrants if not scores[e.name].failure]
    seconds: dict[str, list[float]] = {e.name: [] for e in running}
    for number in range(rounds):
        if number and time.monotonic() - begin > budget_seconds:
            say(f"{title}: stopped after {number} rounds, {budget_seconds:.0f} s are over")
            break
        say(f"{title}: round {number + 1} of {rounds}")
        for entrant in turns(running, number):
            seconds[entrant.name].append(_seconds(entrant, device)[0])
    return Standing(
        title,
        tuple(
            replace(score, timing=Timing(tuple(seconds[name]))) if name in seconds else score
            for name, score in scores.items()
        ),
        error_name if check is not None else "",
        item,
        x,
        x_name,
    )


def turns(entrants: Sequence[Entrant], number: int) -> list[Entrant]:
    """The order of a round: each begins one further on."""
    if not entrants:
        return []
    begin = number % len(entrants)
    return [*entrants[begin:], *entrants[:begin]]


def say(text: str) -> None:
    """A line about how far it is, to stderr."""
    print(text, file=sys.stderr, flush=True)


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was told; on a processor there is nothing to wait for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _first(
    entrant: Entrant,
    title: str,
    check: Callable[[Any], float] | None,
    device: str,
    memory: bool,
) -> Score:
    say(f"{title}: first run of {entrant.name}")
    score = Score(entrant.name, entrant.is_ours, entrant.note, entrant.items)
    try:
        seconds, result = _seconds(entrant, device)
        error = None if check is None else check(result)
        del result
        if memory:
            entrant.prepare()
        peak = peak_mib(entrant.run, device) if memory else None
    except Exception as trouble:
        if not entrant.may_fail:
            raise
        reason = str(trouble).strip().splitlines() or [""]
        failure = f"{type(trouble).__name__}: {reason[0]}"[:200]
        say(f"{entrant.name} failed: {failure}")
        return replace(score, failure=failure)
    return replace(score, first_seconds=seconds, error=error, peak_mib=peak)


def _seconds(entrant: Entrant, device: str) -> tuple[float, Any]:
    entrant.prepare()
    wait_for(device)
    begin = time.perf_counter()
    result = entrant.run()
    wait_for(device)
    return time.perf_counter() - begin, result


def _short(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
