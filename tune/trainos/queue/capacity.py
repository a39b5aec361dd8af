"""What the cluster has, as the queue saw it last: so that a job which can never start is refused when it is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.db import Connection
from tune.trainos.errors import JobTooLarge
from tune.trainos.models import JobSpec
from tune.trainos.queue import store
from tune.trainos.queue.models import NOTHING, Gang, Node
from tune.trainos.queue.policy import can_ever_start

FRESH_S = 90.0
"""What was seen longer ago says nothing."""


def find_addable(most: Sequence[Node], present: Sequence[Node]) -> list[Node]:
    """Of the nodes that an autoscaler may bring the cluster to, those that are not there yet: nothing of them is free now."""
    left = list(most)
    for node in present:
        alike = [each for each in left if (each.total.cpu, each.total.gpu) == (node.total.cpu, node.total.gpu)]
        if alike and not node.leaving:
            left.remove(min(alike, key=lambda each: abs(each.total.memory_gib - node.total.memory_gib)))
    return [replace(node, available=NOTHING) for node in left]


async def note_capacity(conn: Connection, nodes: Sequence[Node]) -> None:
    """Keep what the nodes have, those among them that may be added."""
    await store.set_capacity(conn, nodes)


async def check_fits(conn: Connection, spec: JobSpec) -> None:
    """That the cluster, all of it empty, has room for the job; where it is not known what it has, the queue decides. Raises: JobTooLarge."""
    nodes = await store.find_capacity(conn, FRESH_S)
    never = can_ever_start(Gang.of(spec), nodes) if nodes else None
    if never is not None:
        raise JobTooLarge(job=spec.name, reason=never)
