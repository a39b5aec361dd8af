"""A node that Ray drains, as a spot instance that was given notice: what the queue is told of it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ray_head
from tests.support.ray_nodes import RayNodes
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]
JOB = "0198a000-0000-7000-8000-000000000001"
LOOK = """
import asyncio, json, subprocess, sys, types
import ray
from ray.job_submission import JobSubmissionClient, JobStatus
from tests.support.waiting import wait_until
from tune.trainos.ray_cluster import RayCluster
dashboard, job, command = sys.argv[1:]
ray.init(logging_level="ERROR")
jobs = JobSubmissionClient(dashboard)
jobs.submit_job(entrypoint="sleep 600", submission_id=f"aidos-{job}-1", entrypoint_resources={"second": 0.5})
wait_until(lambda: jobs.get_job_status(f"aidos-{job}-1") is JobStatus.RUNNING, within_s=60)
(second,) = [node["NodeID"] for node in ray.nodes() if "second" in node["Resources"]]
cluster = RayCluster(types.SimpleNamespace(ray_dashboard_url=dashboard))
look = lambda: [[node.id == second, node.leaving, sorted(map(str, node.jobs))] for node in asyncio.run(cluster.nodes())]
before = look()
drain = ["--node-id", second, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "120"]
subprocess.run([command, "drain-node", *drain], check=True, stdout=subprocess.DEVNULL)
print(json.dumps([sorted(before), sorted(look())]))
jobs.stop_job(f"aidos-{job}-1")
"""


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    """Two nodes, the second with a resource of its own."""
    home = Path(tempfile.mkdtemp(prefix="aidos-draining-"))
    cluster = RayNodes(home)
    try:
        cluster.start_head()
        cluster.start_node('--resources={"second": 1}')
        yield cluster
    finally:
        wait_until(lambda: not RunningPlatform(home).kill(), within_s=30, every_s=0.2)
        shutil.rmtree(home, ignore_errors=True)


def test_it_is_leaving_and_whose_processes_it_has_is_known(nodes: RayNodes) -> None:
    command = [sys.executable, "-c", LOOK, nodes.dashboard_url, JOB, str(ray_head.RAY)]
    driver = nodes.spawn(command, talks=True, RAY_ADDRESS=nodes.address)
    said, _ = driver.communicate(timeout=150)
    assert driver.returncode == 0, nodes.logs()
    before, after = json.loads(said.splitlines()[-1])
    assert before == [[False, False, []], [True, False, []]]
    assert after == [[False, False, []], [True, True, [JOB]]]
