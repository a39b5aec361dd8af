"""``ray-cluster.yaml``: valid for Kubernetes and KubeRay, closed where it must be, and its commands start a real cluster."""

from __future__ import annotations

import copy
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.scripts.scripts import start as ray_start_command

from actors.securityvault import keyring
from cluster.settings import SYSTEM_GROUP, Settings
from tests.cluster import kuberay
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until
from tune.trainos.models import Resources
from tune.trainos.queue.trace import read_nodes

MANIFEST = Path(__file__).parents[2] / "ray-cluster.yaml"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
KUBERNETES_VERSIONS = ("1.30", "1.34")
RAY = str(Path(sys.executable).with_name("ray"))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def cluster() -> dict[str, Any]:
    (document,) = of_kind("RayCluster")
    return document


def workers() -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in cluster()["spec"]["workerGroupSpecs"]}


def groups() -> dict[str, dict[str, Any]]:
    return {"head": cluster()["spec"]["headGroupSpec"], **workers()}


def container(group: dict[str, Any]) -> dict[str, Any]:
    (only,) = group["template"]["spec"]["containers"]
    return only


def secret_names(group: dict[str, Any]) -> set[str]:
    """Every secret that a group's pods can read: volumes, environment, environment sources."""
    pod = group["template"]["spec"]
    volumes = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    sources = {source["secretRef"]["name"] for source in container(group).get("envFrom", []) if "secretRef" in source}
    single = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in container(group).get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    return volumes | sources | single


@pytest.mark.plain
class TestSchemas:
    @pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
    def test_native_kinds_are_valid(self, version: str) -> None:
        for document in DOCUMENTS:
            if document["kind"] != "RayCluster":
                kubernetes_validate.validate(document, version, strict=True)

    @pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
    @pytest.mark.parametrize("name", groups())
    def test_pod_templates_are_valid(self, name: str, version: str) -> None:
        template = groups()[name]["template"]
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "PodTemplate", "template": template}, version, strict=True)

    def test_ray_cluster_is_valid(self) -> None:
        jsonschema.validate(cluster(), kuberay.SCHEMA)

    def test_a_wrong_field_is_reported(self) -> None:
        wrong = copy.deepcopy(cluster())
        wrong["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
        with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
            jsonschema.validate(wrong, kuberay.SCHEMA)
        template = copy.deepcopy(groups()["system"]["template"])
        template["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({"apiVersion": "v1", "kind": "PodTemplate", "template": template}, "1.34", strict=True)

    def test_every_name_that_is_used_exists(self) -> None:
        maps = {document["metadata"]["name"] for document in of_kind("ConfigMap")}
        accounts = {document["metadata"]["name"] for document in of_kind("ServiceAccount")}
        claims = {document["metadata"]["name"] for document in of_kind("PersistentVolumeClaim")}
        for group in groups().values():
            pod = group["template"]["spec"]
            assert {source["configMapRef"]["name"] for source in container(group)["envFrom"]} <= maps
            assert pod.get("serviceAccountName", next(iter(accounts))) in accounts
            assert {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v} <= claims
            assert {mount["name"] for mount in container(group)["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}


@pytest.mark.plain
class TestWhoMayDoWhat:
    def test_only_the_system_group_reads_the_platforms_secrets(self) -> None:
        assert {name: secret_names(group) for name, group in groups().items()} == {
            "head": set(),
            "system": {"aidos-platform"},
            "cpu": set(),
            "gpu": set(),
        }

    def test_no_secret_is_written_in_the_file(self) -> None:
        assert not of_kind("Secret")
        text = MANIFEST.read_text()
        assert cluster()["spec"]["authOptions"] == {"mode": "token", "secretName": "aidos-ray-token"}
        assert "RAY_AUTH_TOKEN, value" not in text

    def test_the_commands_of_its_header_make_what_the_platform_reads(self, tmp_path: Path) -> None:
        given = set(re.findall(r"--from-literal=aidos_(\w+)=", MANIFEST.read_text()))
        assert {"database_url", "s3_access_key", "s3_secret_key"} == given <= set(Settings.model_fields)
        (code,) = re.findall(r"^#   AIDOS_HOME=keys python -c '(.+)'$", MANIFEST.read_text(), re.M)
        environment = {"AIDOS_HOME": str(tmp_path / "keys"), "PATH": os.environ["PATH"]}
        subprocess.run([sys.executable, "-c", code], cwd=MANIFEST.parent, env=environment, check=True)
        made = {path.name for path in (tmp_path / "keys/secrets").iterdir()}
        assert made == {f"aidos_{name}" for name in (keyring.TOKEN_KEYS, keyring.AUDIT_KEYS, keyring.PEPPER, keyring.SECRET_KEYS)}

    def test_the_head_runs_no_user_work(self) -> None:
        assert cluster()["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"

    def test_only_the_system_group_carries_its_label(self) -> None:
        assert [name for name, group in groups().items() if SYSTEM_GROUP.items() <= group.get("labels", {}).items()] == ["system"]
        assert f"--entrypoint-label-selector '{json.dumps(SYSTEM_GROUP)}'" in MANIFEST.read_text()

    def test_only_the_system_group_mounts_the_secrets(self) -> None:
        assert [name for name, group in groups().items() if "aidos-platform" in json.dumps(group)] == ["system"]

    def test_haproxy_says_who_the_client_is_on_every_node(self) -> None:
        settings = of_kind("ConfigMap")[0]["data"]
        folder, _, script = settings["RAY_SERVE_HAPROXY_BINARY_PATH"].partition("site-packages/")
        assert folder == "/home/ray/anaconda3/lib/python3.11/"
        assert os.access(MANIFEST.parent / script, os.X_OK)
        networks = [ip_network(network) for network in settings["FORWARDED_ALLOW_IPS"].split(",")]
        assert not any(network.is_global for network in networks), "no stranger's word counts"
        assert settings["AIDOS_TRUSTED_PROXIES"] == ""

    @pytest.mark.parametrize("name", groups())
    def test_pods_have_no_privileges(self, name: str) -> None:
        group = groups()[name]
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container(group)["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        if name != "head":
            assert group["template"]["spec"]["automountServiceAccountToken"] is False

    @pytest.mark.parametrize("name", groups())
    def test_pods_have_probes_and_bounds(self, name: str) -> None:
        ray = container(groups()[name])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ray[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert ray["resources"]["limits"]["memory"] == ray["resources"]["requests"]["memory"]

    def test_the_queue_knows_how_far_its_groups_scale(self) -> None:
        (settings,) = [document["data"] for document in of_kind("ConfigMap") if document["metadata"]["name"] == "aidos-settings"]
        found = []
        for group in (workers()["cpu"], workers()["gpu"]):
            limits = container(group)["resources"]["limits"]
            has = Resources(float(limits["cpu"]), float(limits.get("nvidia.com/gpu", 0)), float(limits["memory"].removesuffix("Gi")))
            found += [has] * group["maxReplicas"]
        assert [node.total for node in read_nodes(settings["AIDOS_AUTOSCALER_NODES"])] == found

    def test_user_groups_scale_from_nothing(self) -> None:
        assert cluster()["spec"]["enableInTreeAutoscaling"] is True
        for name in ("cpu", "gpu"):
            assert workers()[name]["minReplicas"] == 0 < workers()[name]["maxReplicas"]


def admits(policy: dict[str, Any], *, group: str, port: int, from_outside: bool = True) -> bool:
    """Whether the policy lets a stranger in to ``port`` of the group's pods."""
    wanted = policy["spec"]["podSelector"].get("matchLabels", {})
    if "ray.io/group" in wanted and wanted["ray.io/group"] != group:
        return False
    for rule in policy["spec"].get("ingress", []):
        if ("from" not in rule) == from_outside and ("ports" not in rule or port in {p["port"] for p in rule["ports"]}):
            return True
    return False


@pytest.mark.plain
class TestNetwork:
    def test_only_the_gateways_ports_are_open_to_strangers(self) -> None:
        ports = (6379, 8000, 8080, 8265, 8404, 9000, 10001, 30000, 52365)
        opened = {(name, port) for name in groups() for port in ports for p in of_kind("NetworkPolicy") if admits(p, group=name, port=port)}
        assert opened == {("system", 8000), ("system", 9000)}

    def test_every_pod_is_closed_by_default(self) -> None:
        closed = [p for p in of_kind("NetworkPolicy") if p["spec"]["podSelector"] == {}]
        assert [sorted(p["spec"]["policyTypes"]) for p in closed] == [["Egress", "Ingress"]]

    def test_the_service_and_the_budget_select_the_system_pods(self) -> None:
        system = {"ray.io/cluster": cluster()["metadata"]["name"], "ray.io/group": "system"}
        (service,) = of_kind("Service")
        (budget,) = of_kind("PodDisruptionBudget")
        assert service["spec"]["selector"] == system == budget["spec"]["selector"]["matchLabels"]


@pytest.mark.plain
class TestCommands:
    def test_every_flag_is_one_of_ray_start(self) -> None:
        known = {option for parameter in ray_start_command.params for option in parameter.opts}
        for name, group in groups().items():
            flags = {word.split("=")[0] for word in kuberay.ray_start(group, address="" if name == "head" else "head:6379")[2:]}
            assert flags <= known

    def test_ray_is_the_version_that_is_locked(self) -> None:
        lock = (MANIFEST.parent / "requirements/lock.txt").read_text()
        assert f"\nray=={cluster()['spec']['rayVersion']} " in lock


class LocalCluster:
    """The head's and one group's commands as processes of this machine, on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(32)
        self.folder = folder
        token_path = folder / "token"
        token_path.touch(mode=0o600)
        token_path.write_text(self.token)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AIDOS_"))},
            **of_kind("ConfigMap")[0]["data"],
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_path),
        }
        first = find_free_ports(7)
        self.gcs, self.dashboard, self.client, self.head_agent, self.worker_agent, *self.metrics = range(first, first + 7)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> None:
        head = groups()["head"]
        own = {variable["name"]: variable["value"] for variable in container(head)["env"]}
        own["RAY_gcs_storage_path"] = str(self.folder / "gcs")
        command = kuberay.ray_start(head)
        moved = {"dashboard-agent-listen-port": self.head_agent, "metrics-export-port": self.metrics[0], "dashboard-host": "127.0.0.1"}
        extra = [
            f"--port={self.gcs}",
            f"--dashboard-port={self.dashboard}",
            f"--temp-dir={self.folder / 'ray'}",
            f"--ray-client-server-port={self.client}",
        ]
        self._spawn(replaced(command, moved) + extra, own)

    def start_worker(self, name: str) -> None:
        command = kuberay.ray_start(groups()[name], address=f"127.0.0.1:{self.gcs}")
        self._spawn(replaced(command, {"dashboard-agent-listen-port": self.worker_agent, "metrics-export-port": self.metrics[1]}), {})

    def nodes(self) -> list[dict[str, Any]]:
        listed = subprocess.run(
            [RAY, "list", "nodes", "--format=json", "--detail", f"--address=http://127.0.0.1:{self.dashboard}"],
            env=self.environment,
            capture_output=True,
            check=True,
        )
        return json.loads(listed.stdout)

    def stop(self) -> None:
        for process in reversed(self.processes):  # a node whose head has gone looks for it for a minute
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self, command: list[str], environment: dict[str, str]) -> None:
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        self.processes.append(
            subprocess.Popen(
                [RAY, *command[1:]], env=self.environment | environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        )


def replaced(command: list[str], values: dict[str, Any]) -> list[str]:
    """The command with other values for flags that it has; every one of ``values`` must be there."""
    result = [f"--{name}={values[name]}" if (name := word.lstrip("-").split("=")[0]) in values else word for word in command]
    assert sum(before != after for before, after in zip(command, result, strict=True)) == len(values)
    return result


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    # Ray's sockets need a short path.
    cluster = LocalCluster(tmp_path_factory.mktemp("k"))
    try:
        cluster.start_head()
        wait_for_health(cluster, cluster.head_agent)
        cluster.start_worker("system")
        wait_for_health(cluster, cluster.worker_agent)
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.ray
@pytest.mark.timeout(240)
class TestCommandsRunHere:
    def test_head_and_system_worker_join_with_their_labels(self, local: LocalCluster) -> None:
        wait_until(lambda: len([node for node in local.nodes() if node["state"] == "ALIVE"]) == 2, within_s=60)
        by_role = {node["is_head_node"]: node for node in local.nodes()}
        assert by_role[False]["labels"]["aidos.io/group"] == "system"
        assert "aidos.io/group" not in by_role[True].get("labels", {})
        assert by_role[False]["resources_total"]["CPU"] == 4
        assert "CPU" not in by_role[True]["resources_total"]

    def test_the_probes_answer_without_a_token_and_nothing_else_does(self, local: LocalCluster) -> None:
        for agent in (local.head_agent, local.worker_agent):
            assert httpx.get(f"http://127.0.0.1:{agent}/api/healthz").status_code == 200
        jobs = f"http://127.0.0.1:{local.dashboard}/api/jobs/"
        assert httpx.get(jobs).status_code == 401
        assert httpx.get(jobs, headers={"Authorization": "Bearer wrong"}).status_code == 403
        assert httpx.get(jobs, headers={"Authorization": f"Bearer {local.token}"}).status_code == 200

    def test_the_heads_state_is_on_disk(self, local: LocalCluster) -> None:
        assert list((local.folder / "gcs").rglob("*.sst")) or list((local.folder / "gcs").rglob("MANIFEST*"))


def wait_for_health(cluster: LocalCluster, port: int) -> None:
    def healthy() -> bool:
        dead = [process for process in cluster.processes if process.poll() is not None]
        assert not dead, "\n".join(log.read_text() for log in sorted(cluster.folder.glob("*.log")))
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(healthy, within_s=90)
