"""What the KubeRay operator makes of a RayCluster, as far as the manifest relies on it.

Written from the operator's own rules (``generateRayStartCommand``, ``setMissingRayStartParams`` and
``updateRayStartParamsLabels`` in ray-operator/controllers/ray/common/pod.go; the types in apis/ray/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_COUNT = {"type": "integer", "minimum": 0}
_ANY = {"type": "object"}  # checked against the Kubernetes schemas instead


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_GROUP = {"template": _ANY, "rayStartParams": _TEXTS, "labels": _TEXTS, "resources": _TEXTS}

SCHEMA = _closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=_ANY,
    spec=_closed(
        ["headGroupSpec"],
        rayVersion=_TEXT,
        authOptions=_closed([], mode={"enum": ["token", "disabled"]}, secretName=_TEXT, enableK8sTokenAuth={"type": "boolean"}),
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=_closed(
            [],
            version={"enum": ["v1", "v2"]},
            upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
            idleTimeoutSeconds=_COUNT,
            resources=_ANY,
            securityContext=_ANY,
            image=_TEXT,
            imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            env={"type": "array"},
            envFrom={"type": "array"},
            volumeMounts={"type": "array"},
        ),
        headGroupSpec=_closed(
            ["template"],
            **_GROUP,
            serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
            enableIngress={"type": "boolean"},
        ),
        workerGroupSpecs={
            "type": "array",
            "items": _closed(
                ["groupName", "minReplicas", "maxReplicas", "template"],
                **_GROUP,
                groupName=_TEXT,
                replicas=_COUNT,
                minReplicas=_COUNT,
                maxReplicas=_COUNT,
                numOfHosts=_COUNT,
                idleTimeoutSeconds=_COUNT,
            ),
        },
    ),
)

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}
# Flags of `ray start` that take an explicit true or false; the others are switches.
_BOOLEAN_OPTIONS = {"log-color", "include-dashboard", "include-log-monitor"}


def quantity(text: str) -> int:
    """A Kubernetes quantity as the operator rounds it: whole units, upwards."""
    for suffix, factor in _UNITS.items():
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * factor)
    return -(-int(text.removesuffix("m")) // 1000) if text.endswith("m") else int(float(text))


def ray_start(group: Mapping[str, Any], *, address: str = "") -> list[str]:
    """``ray start …`` of a group's container. ``address`` is the head's; empty: this is the head."""
    params = dict(group.get("rayStartParams", {}))
    if address:
        params.setdefault("address", address)
    else:
        params.setdefault("dashboard-host", "0.0.0.0")
    params.setdefault("metrics-export-port", "8080")
    params.setdefault("dashboard-agent-listen-port", "52365")
    params["block"] = "true"
    if group.get("labels"):
        params["labels"] = ",".join(f"{key}={value}" for key, value in sorted(group["labels"].items()))
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    for resource, flag in (("cpu", "num-cpus"), ("memory", "memory"), ("nvidia.com/gpu", "num-gpus")):
        if resource in limits:
            params.setdefault(flag, str(quantity(str(limits[resource]))))
    return ["ray", "start", *([] if address else ["--head"]), *(flag for name in sorted(params) for flag in _flag(name, params[name]))]


def _flag(name: str, value: str) -> list[str]:
    if value.lower() in {"true", "false"} and name not in _BOOLEAN_OPTIONS:
        return [f"--{name}"] if value.lower() == "true" else []
    return [f"--{name}={value}"]
