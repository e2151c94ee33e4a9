"""Status: what a server says of itself, for a person, a program or Prometheus."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from pathlib import Path
from typing import final

from ..errors import SourceError


@final
@dataclass(frozen=True, slots=True)
class Status:
    """A server at a moment.

    Args:
        variant: What it generates.
        pid: Process of the generator.
        supervisor: Process that started it; 0 without one.
        is_ready: Whether the last thing it tried to make was made, less than a minute ago.
        uptime: Seconds since the generator's process began to answer.
        clients: Connections now.
        waiting: Volumes in the queue.
        is_busy: Whether one is being made.
        volumes_per_minute: Made, over the last five minutes.
        fetched, generated, decoded, hits, joined, failures, unsaved: As in `SourceStats`.
        rejected: As in `SourceStats`.
        refused: Questions answered with "ask again later", because the queue was full.
        longest_wait: Seconds that the longest fetch so far waited.
        memory: Bytes that the generator's process has in memory.
        slots, free_slots: Of the ring.
        restarts: How often the generator's process was replaced.
        steps_down: How often it went over to a plan with less memory.
        last_error: Of the generator, or why its process was replaced; empty if never.
    """

    variant: str
    pid: int
    supervisor: int
    is_ready: bool
    uptime: float
    clients: int
    waiting: int
    is_busy: bool
    volumes_per_minute: float
    fetched: int
    generated: int
    decoded: int
    hits: int
    joined: int
    failures: int
    unsaved: int
    refused: int
    longest_wait: float
    memory: int
    slots: int
    free_slots: int
    restarts: int
    steps_down: int
    last_error: str
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def hit_share(self) -> float:
        """Share of fetches that cost no model time, or 0 before the first."""
        return min(self.hits / self.fetched, 1.0) if self.fetched else 0.0

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Status:
        """What `to_json` wrote.

        Raises:
            SourceError: if it is anything else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            msg = f"not a status: {text[:60]!r}"
            raise SourceError(msg) from error

    def metrics(self) -> str:
        """In the text form that Prometheus reads (exposition format 0.0.4)."""
        lines = []
        for named in fields(self):
            if named.name not in _METRICS:
                continue
            name, kind, text = _METRICS[named.name]
            value = getattr(self, named.name)
            lines += [
                f"# HELP nvgen_{name} {text}",
                f"# TYPE nvgen_{name} {kind}",
                f'nvgen_{name}{{variant="{_escaped(self.variant)}"}} {float(value):.10g}',
            ]
        name = "nvgen_rejected_total"
        if self.rejected:
            lines += [
                f"# HELP {name} Faults of volumes that were thrown away.",
                f"# TYPE {name} counter",
            ]
        for reason, number in sorted(self.rejected.items()):
            told = f'variant="{_escaped(self.variant)}",reason="{_escaped(reason)}"'
            lines.append(f"{name}{{{told}}} {number}")
        return "\n".join(lines) + "\n"


# Of each field that is a number: its name for Prometheus, whether it only grows, and what it says.
_METRICS = {
    "is_ready": ("ready", "gauge", "Whether the generator made something in the last minute."),
    "uptime": ("uptime_seconds", "gauge", "Seconds since the generator's process answers."),
    "clients": ("clients", "gauge", "Connections now."),
    "waiting": ("queue_length", "gauge", "Volumes in the queue."),
    "is_busy": ("busy", "gauge", "Whether a volume is being made."),
    "volumes_per_minute": ("volumes_per_minute", "gauge", "Volumes made, over five minutes."),
    "fetched": ("fetched_total", "counter", "Volumes or crops handed out."),
    "generated": ("generated_total", "counter", "Volumes made by the model."),
    "decoded": ("decoded_total", "counter", "Volumes decoded again from a stored latent."),
    "hits": ("hits_total", "counter", "Fetches answered from memory or the cache."),
    "joined": ("joined_total", "counter", "Fetches that joined a generation under way."),
    "failures": ("failures_total", "counter", "Requests that ended in an error."),
    "unsaved": ("unsaved_total", "counter", "Volumes that the cache could not keep."),
    "refused": ("refused_total", "counter", "Questions put off because the queue was full."),
    "longest_wait": ("longest_wait_seconds", "gauge", "Longest wait of a fetch so far."),
    "memory": ("resident_memory_bytes", "gauge", "Memory of the generator's process."),
    "slots": ("ring_slots", "gauge", "Slots of the ring."),
    "free_slots": ("ring_free_slots", "gauge", "Slots of the ring that nobody holds."),
    "restarts": ("restarts_total", "counter", "Times the generator's process was replaced."),
    "steps_down": ("memory_steps_down_total", "counter", "Changes to a plan with less memory."),
}


def memory_of_this_process() -> int:
    """Bytes in memory now, or 0 where `/proc` does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
