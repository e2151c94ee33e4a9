"""Joining: how a program gets into a Ray cluster, and how many makers find room there."""

from __future__ import annotations

import logging
import socket
from typing import Any

import ray
from ray.exceptions import RayError

from ...errors import ServerUnavailable
from ...errors import SourceError

NAMESPACE = "nvgen_aug"
SECONDS_TO_KNOCK = 10.0


def connect(cluster: str | None) -> bool:
    """Join a cluster unless this process has; whether it is ours to leave again."""
    if ray.is_initialized():
        return False
    try:
        if cluster is not None and "://" not in cluster:
            # Ray itself would knock for minutes where nobody is.
            host, _, port = cluster.rpartition(":")
            socket.create_connection((host, int(port)), SECONDS_TO_KNOCK).close()
        ray.init(
            address=cluster or "auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        where = f"at {cluster}" if cluster else "on this machine"
        msg = f"no Ray cluster answers {where} ({error}); start one with `ray start --head`"
        raise ServerUnavailable(msg) from error
    return True


def makers_for(gpus: int, cpus: int, actors: int | None) -> int:
    """How many makers there are to be; more than fit would wait for ever."""
    what, each = ("GPU", gpus) if gpus else ("CPU", cpus)
    alive: Any = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in alive if node["Alive"]]
    room = sum(int(node.get(what, 0) // each) for node in nodes)
    if actors is None:
        actors = room if gpus else min(room, len(nodes))
    if not 1 <= actors <= room:
        msg = (
            f"a cluster with room for {room} makers of {each} {what} each was asked for "
            f"{actors}; name fewer `actors`, or add machines with `ray start --address=…`"
        )
        raise SourceError(msg)
    return actors
