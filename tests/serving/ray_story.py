"""What a program sees of a cluster, told as JSON: run in a process of its own by test_cluster.py.

python -m tests.serving.ray_story ADDRESS FOLDER
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import ServerDied
from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WrongProcess
from nvgen_aug.serving.cluster import ClusterEngine
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom

FACTORY = "tests.serving.faulty:engine"


def main(address: str, folder: Path) -> dict[str, Any]:
    """Everything, one after the other, with one pool."""
    orders = folder / "orders"
    orders.mkdir()
    arguments = {"orders": str(orders), "cache": str(folder / "cache")}
    told: dict[str, Any] = {}
    with ClusterEngine(FACTORY, arguments, actors=2, cluster=address) as source:
        with ThreadPoolExecutor(8) as hands:
            same = list(hands.map(source.fetch, [phantom(1)] * 8))
        for volume in same:
            assert_same(volume, made_directly(phantom(1)))
        told["made for eight"] = source.stats().generated

        with ThreadPoolExecutor(8) as hands:
            list(hands.map(source.store, [phantom(seed) for seed in range(10, 30)]))
        told["made of twenty"] = source.stats().generated - told["made for eight"]
        told["machines"] = source.figures()["machines"]

        (orders / "2").write_text("kill")
        assert_same(source.fetch(phantom(2)), made_directly(phantom(2)))
        told["deaths"] = source.figures()["deaths"]
        while source.figures()["makers"] < 2:
            pass
        (orders / "3").write_text("always kill")
        told["poison"] = text_of(lambda: source.fetch(phantom(3)), ServerDied)
        (orders / "3").unlink()
        (orders / "4").write_text("tell a path")
        told["failed"] = text_of(lambda: source.fetch(phantom(4)), GenerationError)
        told["illegal"] = text_of(lambda: source.fetch(phantom(0, modality="XY")), SpecError)
        told["pickled"] = text_of(lambda: pickle.dumps(source), WrongProcess)
        told["forked"] = in_a_fork(lambda: text_of(lambda: source.fetch(phantom(5)), WrongProcess))
        assert_same(source.fetch(phantom(6)), made_directly(phantom(6)))
    return told


def text_of(act: Callable[[], object], kind: type[Exception]) -> str:
    """The text of the error that an act ends with."""
    try:
        act()
    except kind as error:
        return str(error)
    return "nothing was raised"


def in_a_fork(act: Callable[[], str]) -> str:
    """What an act returns in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, act().encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as lines:
        return lines.read()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
