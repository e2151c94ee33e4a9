"""An engine whose process kills itself at a named stage of a request; importable by a resident.

A stage is the beginning of one of our functions while a volume is fetched, as Python's
own tracing shows it, so there is nothing in the code of the package that knows of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import nvgen_aug
from nvgen_aug.cache import VolumeCache
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving.engine import Engine

PACKAGE = os.path.dirname(nvgen_aug.__file__)
OURS = tuple(os.path.join(PACKAGE, part) for part in ("serving", "cache", "generators"))
RECORD = "record"
# The second time tells what lies between two calls, as between two pieces of a volume.
MOST_OCCURRENCES = 2


class Stages:
    """Counts the calls of a request, and acts when the one that was ordered comes.

    Args:
        folder: `order` in it names a stage, or says `record`; `stages` is what was recorded.
    """

    def __init__(self, folder: Path) -> None:
        self._order = folder / "order"
        self._record = folder / "stages"
        self._seen: Counter[str] = Counter()
        self._word = ""
        self._lock = threading.Lock()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(OURS):
            return
        if not threading.current_thread().name.startswith(("nvgen-engine", "nvgen-client")):
            return
        name = f"{os.path.relpath(path, PACKAGE)}:{frame.f_code.co_name}"
        with self._lock:
            if name == "serving/conversation.py:_fetch":
                self._seen.clear()
                self._word = self._order.read_text() if self._order.exists() else ""
            if not self._word:
                return
            self._seen[name] += 1
            stage = f"{name}#{self._seen[name]}"
            if self._word == RECORD and self._seen[name] <= MOST_OCCURRENCES:
                with self._record.open("a") as file:
                    file.write(stage + "\n")
            elif self._word == stage:
                self._order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


def engine(folder: str, cache: str) -> Engine:
    """What the resident process of a test makes."""
    # Only threads that begin from here on are traced: all that answer a request.
    threading.settrace(Stages(Path(folder)))
    assert sys.gettrace() is None
    return Engine(PhantomGenerator(), VolumeCache(cache, max_bytes="1 GB"))
