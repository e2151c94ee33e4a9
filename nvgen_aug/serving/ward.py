"""Ward: the process of a generator, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import final

from ..errors import NvgenError
from ..errors import ServerDied
from . import messages as m
from . import wire
from .restarts import Patience

# How long the volume in work may take to reach the cache after SIGTERM.
SECONDS_TO_DRAIN = 10.0
# A process that was stopped in the middle of a word must not hold its supervisor.
SECONDS_TO_FINISH_A_WORD = 5.0
# A few of its signs of life, one of which may come late on a busy machine.
LEAST_SILENCE = 3.0
MODULE = "nvgen_aug.serving"


@final
class Ward:
    """A child that was just started.

    Args:
        listener: The socket that it will accept clients from.
        order: What it makes, of what, and what came before.
        environment: Its variables; `None` is this process's own.
    """

    def __init__(
        self, listener: socket.socket, order: m.Begin, environment: Mapping[str, str] | None
    ) -> None:
        self.control, theirs = socket.socketpair()
        try:
            with theirs:
                fds = (theirs.fileno(), listener.fileno())
                self._process = subprocess.Popen(
                    # -P: a file of the user's in this folder must not shadow a library's.
                    [sys.executable, "-P", "-m", MODULE, *map(str, fds)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=fds,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the supervisor, who then stops it
                )
        except BaseException:
            self.control.close()
            raise
        self.pid = self._process.pid
        self.is_ready = False
        self._began = self._heard = monotonic()
        self._beat = m.Beat(0.0, 0.0)
        self._failure: NvgenError | None = None
        self.control.settimeout(SECONDS_TO_FINISH_A_WORD)
        with suppress(OSError):  # dead already, which is seen at the next look
            self.control.sendall(wire.frame(order))

    def hear(self) -> None:
        """Take in one message.

        Raises:
            EOFError, OSError: if the process is dead.
            SourceError: if it does not make sense.
        """
        message = wire.receive(self.control, m.Message)
        self._heard = monotonic()
        if isinstance(message, m.Ready):
            self.is_ready = True
        elif isinstance(message, m.Beat):
            self._beat = message
        elif isinstance(message, m.Failure):
            self._failure = message.error()

    def deadline(self, patience: Patience) -> float:
        """When to look at it again at the latest, on the monotonic clock."""
        if not self.is_ready:
            return self._began + patience.start
        return self._heard + _longest_silence(patience)

    def complaint(self, patience: Patience) -> str:
        """Why it has to go, or nothing."""
        now = monotonic()
        if not self.is_ready:
            is_late = now >= self._began + patience.start
            return f"it was not ready within {patience.start:g} s" if is_late else ""
        silence = _longest_silence(patience)
        if now >= self._heard + silence:
            return f"it gave no sign of life for {silence:g} s"
        most = max(patience.hang, 5 * self._beat.longest)
        if self._beat.silent >= most:
            return (
                f"its job made no progress for {self._beat.silent:.0f} s, and {most:.0f} s is the "
                "most (`hang` of its patience)"
            )
        return ""

    def last_words(self, error: Exception) -> NvgenError:
        """Why it died: what it said itself, or else how it ended."""
        if self._failure is not None:
            return self._failure
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        if code is None:
            return ServerDied(f"the generator's process cannot be understood any more: {error}")
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        when = "" if self.is_ready else " before it was ready"
        return ServerDied(f"the generator's process {how}{when}")

    def stop(self) -> None:
        """Let it finish what it works on, then end it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_DRAIN * 1.5)
        self.kill()

    def kill(self) -> None:
        """End it, and whatever processes it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self.control.close()


def _longest_silence(patience: Patience) -> float:
    """Who wants a hang ended sooner than a silence means a process that is stopped, too."""
    return max(LEAST_SILENCE, min(patience.silence, patience.hang))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
