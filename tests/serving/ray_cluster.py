"""A Ray cluster of two machines, in a process of its own: Ray leaves sockets where it was used.

Started as a program, it prints the cluster's address and ends the cluster with its input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE_BYTES = 80 << 20


def environment() -> dict[str, str]:
    """What every process of the cluster is started with: this package, and no calls home."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def two_machines(folder: Path) -> Iterator[str]:
    """The address of a running cluster of two machines with two CPUs each.

    Args:
        folder: Where it keeps its logs and sockets; the path must be short.
    """
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment(), "RAY_TMPDIR": str(folder)},
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield next(line.split()[1] for line in process.stdout if line.startswith("address"))
        finally:
            process.stdin.close()
            process.stdout.read()


def main() -> None:
    """Run a cluster until the input ends."""
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    head = {**machine, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**machine)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
