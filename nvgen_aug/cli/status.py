"""`nvgen-aug status`: how the servers on this machine are doing, once or live in the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from time import sleep
from typing import TYPE_CHECKING
from typing import Annotated

import typer
from rich.console import Console
from rich.console import Group
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import SourceError
from .terminal import answer
from .terminal import hint
from .terminal import interruptible
from .terminal import say

if TYPE_CHECKING:
    from ..serving.status import Status

SECONDS_TO_ANSWER = 5.0


def status(
    address: Annotated[
        str | None, typer.Argument(help="unix:PATH of a server; all that run, if not given.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and leave.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print Prometheus text and leave.")
    ] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Fail unless it can generate now; for health checks.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show queue, rate, hits, memory, restarts and the last error of a server, until Ctrl-C.

    Without an address, list the servers of this user that run on this machine. A server
    of several devices has a generator for each, and all of them are shown.

    \b
    Example:
      nvgen-aug status
      nvgen-aug status unix:run/tiny-brain.sock
      nvgen-aug status unix:run/tiny-brain.sock --prove && echo ready
    """
    from ..serving.lifecycle import running  # its numpy is heavy, and --help does without it

    addresses = running() if address is None else [address]
    if prove:
        _prove(addresses)
    if metrics:
        _metrics(addresses)
    if as_json:
        _json(addresses if address is None else _generators_of(address))
    if prove or metrics or as_json:
        return
    if address is None:
        _list(addresses)
        return
    generators = _generators_of(address)
    terminal = Console(highlight=False, emoji=False)
    if once or not terminal.is_terminal:
        for number, one in enumerate(generators):
            answer([*([""] if number else []), *_lines(one, _ask(one))])
        return
    with (
        interruptible("the server goes on"),
        Live(console=terminal, auto_refresh=False) as live,
    ):
        while True:
            live.update(Group(*(_view(one, _patiently(one)) for one in generators)), refresh=True)
            sleep(every)


def _prove(addresses: list[str]) -> None:
    from ..serving import Client

    for address in addresses:
        # A generator may take its time: the server's own patience is the bound.
        with Client(address) as client:
            client.prove()


def _metrics(addresses: list[str]) -> None:
    from ..serving import Client

    if len(addresses) != 1:  # two texts, one after the other, are no text that Prometheus reads
        msg = f"`--metrics` is of one server and {len(addresses)} run; name its address"
        raise SourceError(msg)
    with Client(addresses[0], SECONDS_TO_ANSWER) as client:
        answer([client.metrics().rstrip("\n")])


def _json(addresses: list[str]) -> None:
    for address in addresses:
        found = _ask(address) if len(addresses) == 1 else _patiently(address)
        values = {"error": found} if isinstance(found, str) else asdict(found)
        answer([json.dumps({"address": address, **values})])


def _list(addresses: list[str]) -> None:
    if not addresses:
        say("no server of this user runs on this machine")
        hint("start one with `nvgen-aug serve`")
    for address in addresses:
        found = _patiently(address)
        if isinstance(found, str):
            answer([f"{address}  {found}"])
            continue
        answer(
            [
                f"{address}  {found.variant}  {_state(found)}, {found.waiting} in the queue, "
                f"{found.volumes_per_minute:.1f} volumes/min"
            ]
        )


def _generators_of(address: str) -> list[str]:
    from ..serving import Client

    try:
        with Client(address, SECONDS_TO_ANSWER) as client:
            return list(client.addresses)
    except SourceError:  # who cannot say so now is looked at alone
        return [address]


def _ask(address: str) -> Status:
    from ..serving import Client

    with Client(address, SECONDS_TO_ANSWER) as client:
        return client.status()


def _patiently(address: str) -> Status | str:
    """The status, or why there is none, as while a generator's process is replaced."""
    try:
        return _ask(address)
    except SourceError as error:
        return str(error)


def _view(address: str, found: Status | str) -> RenderableType:
    if isinstance(found, str):
        return Text(found, style="yellow")
    table = Table.grid(padding=(0, 2))
    for line in rows_of(address, found):
        table.add_row(Text(line[0], style="dim"), Text(line[1]))
    return table


def _lines(address: str, found: Status) -> list[str]:
    return [f"{name:<12}{value}" for name, value in rows_of(address, found)]


def rows_of(address: str, found: Status) -> list[tuple[str, str]]:
    """What a person is told of a server, each with its name."""
    age = f"up {_duration(found.uptime)}, {found.restarts} restarts"
    return [
        ("server", f"{address} (`{found.variant}`, process {found.pid})"),
        ("state", f"{_state(found)}, {age}"),
        ("queue", f"{found.waiting} waiting, longest wait so far {found.longest_wait:.2f} s"),
        ("rate", f"{found.volumes_per_minute:.1f} volumes/min over the last five minutes"),
        ("made", f"{found.generated} generated, {found.decoded} decoded again"),
        ("hits", f"{found.hit_share:.0%} of {found.fetched} fetches, {found.joined} shared"),
        ("trouble", f"{found.failures} failed, {found.refused} put off, {found.unsaved} unsaved"),
        ("quality", _quality(found)),
        ("memory", f"{found.memory / 1e6:.0f} MB, ran out of it {found.steps_down} times"),
        ("clients", f"{found.clients}, {found.free_slots} of {found.slots} ring slots free"),
        ("last error", found.last_error or "none"),
    ]


def _quality(found: Status) -> str:
    """What was wrong with volumes that were thrown away, the most frequent first."""
    if not found.rejected:
        return "no volume was thrown away"
    counts = sorted(found.rejected.items(), key=lambda item: (-item[1], item[0]))
    return "thrown away for " + ", ".join(f"{reason} ({number})" for reason, number in counts)


def _state(found: Status) -> str:
    if found.is_busy:
        return "busy"
    return "ready" if found.is_ready else "idle (`--prove` makes it show that it can generate)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
