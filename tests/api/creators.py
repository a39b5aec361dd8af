"""Makes one of everything through the API, with a marker in every text: for tests of what one tenant sees of another.

A new module joins by a function in ``CREATORS``. It returns values for the path parameters of its routes: names and ids
of what it has made. A route whose parameter no creator gives a value for fails the test that uses them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from onnx import TensorProto, helper
from PIL import Image

from actors.costoptimizer import service as costoptimizer
from actors.modelhub.reconciler import VersionReconciler
from api.deps import Edge
from cluster.db import new_id
from cluster.events import Event, consume_batch, publish

TABLE, IMAGE = "table.csv", "image.png"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Example:
    """The body and the query of a request."""

    body: Any
    query: dict[str, Any]


@dataclass
class Made:
    """What stands in the paths: values by the parameter's name, several of them where routes mean different things by it."""

    marker: str
    client: httpx.AsyncClient
    edge: Edge
    values: dict[str, list[str]] = field(default_factory=dict)
    examples: dict[str, Example] = field(default_factory=dict)
    """Requests that work, by operation, with the first of ``values`` in the path."""

    @property
    def key(self) -> str:
        return self.client.headers["Authorization"].removeprefix("Bearer ")

    async def ask(self, method: str, path: str, json: Any = None) -> Any:
        """The answer's body. Raises: AssertionError unless it worked."""
        answer = await self.client.request(method, path, json=json)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def example(self, operation: str, body: Any = None, **query: Any) -> None:
        self.examples[operation] = Example(body, query)

    def note(self, **values: Any) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(str(value))


async def create_securityvault(made: Made) -> None:
    base = "/v1/securityvault"
    project = await made.ask("POST", f"{base}/projects", {"name": f"{made.marker}-p", "description": made.marker})
    made.note(project=project["name"])
    made.note(project=project["id"])
    user = await made.ask("POST", f"{base}/users", {"email": f"{made.marker}@example.org"})
    made.note(user=user["name"])
    account = await made.ask("POST", f"{base}/service-accounts", {"name": f"{made.marker}-sa"})
    made.note(account=account["name"])
    made.note(account=account["id"])
    await made.ask("PUT", f"{base}/members/{account['name']}", {"role": "viewer"})
    key = await made.ask("POST", f"{base}/keys", {"name": f"{made.marker}-key", "role": "viewer"})
    made.note(key=key["name"])
    made.note(key=key["id"])
    await made.ask("PUT", f"{base}/secrets/{made.marker}-secret", {"value": "known to nobody"})
    made.note(secret=f"{made.marker}-secret")
    password = f"{made.marker}-password"
    await made.ask("POST", f"{base}/users", {"email": f"{made.marker}-2@example.org", "password": password})
    organisation = (await made.ask("GET", f"{base}/organisation"))["name"]
    signed_in = {"email": f"{made.marker}-2@example.org", "password": password, "organisation": organisation}
    made.note(session_id=(await made.ask("POST", f"{base}/sessions", signed_in))["session_id"])


async def create_dataforge(made: Made) -> None:
    base = "/v1/dataforge/datasets"
    dataset = await made.ask("POST", base, {"name": f"{made.marker}-ds", "description": made.marker})
    made.note(dataset=dataset["name"])
    files = [{"path": f"{made.marker}.txt", "sha256": EMPTY_SHA256, "size_bytes": 0}]
    files += [await upload(made, f"{base}/{dataset['name']}", name, data) for name, data in ((TABLE, b"a,b\n1,2\n3,4\n"), (IMAGE, _png()))]
    commit = await made.ask("POST", f"{base}/{dataset['name']}/commits", {"message": made.marker, "add": files})
    await made.ask("PUT", f"{base}/{dataset['name']}/refs/{made.marker}", {"kind": "tag", "commit": "main"})
    made.note(ref=made.marker)
    made.note(ref=commit["id"])
    made.note(kind="commit", name=commit["id"])
    one = f"{base}/{{dataset}}"
    made.example(f"PUT {one}/refs/{{ref}}", {"kind": "tag", "commit": "main"})
    made.example(f"GET {one}/rows", path=TABLE)
    made.example(f"GET {one}/schema", path=TABLE)
    made.example(f"GET {one}/thumbnail", path=IMAGE)
    made.example(f"GET {one}/diff/rows", path=TABLE, base="main", head="main")
    made.example(f"POST {one}/query", {"sql": "SELECT sum(a) FROM t", "files": {"t": TABLE}})
    await create_history(made, f"{base}/{dataset['name']}")
    await create_reports(made, dataset["name"])
    await made.ask("PUT", f"{base}/{dataset['name']}/retention", {"keep_days": 7})
    await create_collection(made)
    imported = await made.ask("POST", f"{base}/{dataset['name']}/imports", {"source": f"s3://lake/{made.marker}", "message": made.marker})
    made.note(import_id=imported["id"])
    made.note(verification=(await made.ask("POST", f"{base}/{dataset['name']}/verifications", {}))["id"])
    await create_labelling(made, dataset["name"])


async def upload(made: Made, dataset: str, path: str, data: bytes) -> dict[str, Any]:
    """The file as a commit names it, its content in S3."""
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (missing,) = (await made.ask("POST", f"{dataset}/uploads", {"blobs": [blob]}))["missing"]
    async with httpx.AsyncClient() as store:
        assert (await store.put(missing["url"], content=data, headers=missing["headers"])).is_success
    await made.ask("POST", f"{dataset}/uploads/complete", {"blobs": [blob]})
    return {"path": path, **blob}


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    return out.getvalue()


async def create_history(made: Made, dataset: str) -> None:
    branch = f"{made.marker}-branch"
    await made.ask("PUT", f"{dataset}/refs/{branch}", {"kind": "branch", "commit": "main"})
    await made.ask("PUT", f"{dataset}/protections/{branch}", {"required_checks": [made.marker]})
    made.note(branch=branch)
    await made.ask("PUT", f"{dataset}/commits/main/checks/{made.marker}", {"state": "passed", "summary": made.marker})
    made.note(check=made.marker)
    files = [{"path": f"{made.marker}-2.txt", "sha256": EMPTY_SHA256, "size_bytes": 0}]
    parent = (await made.ask("GET", f"{dataset}/commits/main"))["id"]
    await made.ask("PUT", f"{dataset}/refs/{made.marker}-topic", {"kind": "branch", "commit": "main"})
    await made.ask("POST", f"{dataset}/commits", {"branch": f"{made.marker}-topic", "parent": parent, "add": files})
    asked = {"source": f"{made.marker}-topic", "title": made.marker, "description": made.marker}
    made.note(number=(await made.ask("POST", f"{dataset}/pull-requests", asked))["number"])
    side = await _commit(made, dataset, f"{made.marker}-side", parent)
    one = "/v1/dataforge/datasets/{dataset}"
    verb = f"POST {one}/branches/{{branch}}"
    made.example(f"{verb}/merge", {"source": f"{made.marker}-topic", "override": True})
    made.example(f"{verb}/cherry-pick", {"commit": side, "override": True})
    made.example(f"{verb}/revert", {"commit": "main", "override": True})
    made.example(f"{verb}/reset", {"commit": "main", "override": True})
    made.example(f"GET {one}/branches/{{branch}}/conflicts", source=f"{made.marker}-topic")
    made.example(f"GET {one}/diff", base="main", head=f"{made.marker}-topic")
    made.example(f"GET {one}/diff/stat", base="main", head=f"{made.marker}-topic")
    made.example(f"POST {one}/pull-requests", {"source": f"{made.marker}-side", "title": made.marker})
    made.example(f"POST {one}/pull-requests/{{number}}/reviews", {"verdict": "comment", "body": made.marker})


async def _commit(made: Made, dataset: str, branch: str, parent: str) -> str:
    """A commit on top of ``parent``, on a branch that is made if need be; its id."""
    await made.ask("PUT", f"{dataset}/refs/{branch}", {"kind": "branch", "commit": parent})
    files = [{"path": f"{branch}.txt", "sha256": EMPTY_SHA256, "size_bytes": 0}]
    asked = {"branch": branch, "parent": parent, "add": files, "override": True}
    return str((await made.ask("POST", f"{dataset}/commits", asked))["id"])


async def create_labelling(made: Made, dataset: str) -> None:
    base, questions = "/v1/dataforge/labelling", [{"name": made.marker, "kind": "text"}]
    asked = {"name": f"{made.marker}-l", "dataset": dataset, "questions": {"questions": questions}, "instructions": made.marker}
    labelling = await made.ask("POST", base, asked)
    task = await made.ask("POST", f"{base}/{labelling['name']}/next")
    await made.ask("PUT", f"{base}/{labelling['name']}/mine/{task['id']}/draft", {"value": {made.marker: made.marker}})
    made.note(labelling=labelling["name"], task=task["id"])
    one, answer = f"{base}/{{labelling}}", {"value": {made.marker: made.marker}}
    other = next(each for each in (await made.ask("GET", f"{base}/{labelling['name']}/tasks"))["items"] if each["id"] != task["id"])
    me = (await made.ask("GET", f"{base}/{labelling['name']}/progress"))["annotators"][0]["annotator"]
    path = task["item"]["path"]
    made.example(f"POST {one}/mine/{{task}}/restore", {"version": 1})
    made.example(f"POST {one}/mine/{{task}}/submit", answer)
    made.example(f"POST {one}/assign", {"annotator": me, "tasks": [other["id"]]})
    made.example(f"POST {one}/unassign", {"annotator": me, "tasks": [other["id"]]})
    made.example(f"PUT {one}/tasks/{{task}}/gold", answer)
    made.example(f"PUT {one}/predictions", {"predictions": [{"path": path, **answer}]})
    labels = {"path": "labels.jsonl", "text": json.dumps({"path": path, **answer})}
    made.example(f"POST {one}/import", {"format": "jsonl", "become": "prelabels", "files": [labels]})


async def create_collection(made: Made) -> None:
    """A project has one at a time, and no reconciler ends it here: the one that is under way, or a new one."""
    base = "/v1/dataforge/collections"
    under_way = (await made.ask("GET", base))["items"]
    made.note(collection=(under_way or [await made.ask("POST", base, {})])[0]["id"])


async def create_reports(made: Made, dataset: str) -> None:
    report = await made.ask("POST", f"/v1/dataforge/datasets/{dataset}/reports", {"kind": "profile", "params": {"label": made.marker}})
    made.note(report=report["id"])


async def create_reads(made: Made) -> None:
    """What a run of ``create_modelhub`` read of a commit of ``create_dataforge``."""
    run = made.values["run_id"][0]
    base, source = "/v1/dataforge/reads", hashlib.sha256(made.marker.encode()).hexdigest()
    files = [{"path": f"{made.marker}.txt", "sha256": source, "rows": 1}]
    described = {"unit": "file", "size": 1, "files": files}
    await made.ask("PUT", f"{base}/sources/{source}", described)
    read = {"run": run, "source": source, "dataset": f"{made.marker}-ds", "commit": made.values["ref"][1], "ranges": [[0, 1]]}
    await made.ask("POST", base, read)
    made.note(run=run, source=source, sha256=source)
    made.example(f"PUT {base}/sources/{{source}}", described)
    made.example(f"POST {base}", read)
    made.example(f"GET {base}", run=run)


async def create_modelhub(made: Made) -> None:
    base = "/v1/modelhub"
    experiment = await made.ask("POST", f"{base}/experiments", {"name": f"{made.marker}-e", "description": made.marker})
    made.note(experiment=experiment["name"])
    texts = {"params": {made.marker: made.marker}, "tags": {made.marker: made.marker}}
    run = await made.ask("POST", f"{base}/runs", {"experiment": experiment["name"], "name": made.marker, **texts})
    made.note(run_id=run["id"])
    charts = [{"kind": "curves", "fields": [made.marker]}]
    await made.ask("PUT", f"{base}/views/{made.marker}", {"query": f"name = '{made.marker}'", "columns": [made.marker], "charts": charts})
    made.note(view=made.marker)
    await made.ask("POST", f"{base}/runs/{run['id']}/metrics", {"points": [{"key": made.marker, "value": 1.0}]})
    contents = {f"{made.marker}/model.onnx": _graph(made.marker), f"{made.marker}/scaler.pkl": b"\x80\x05N."}
    files = [{"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for path, data in contents.items()]
    uploads = await made.ask("POST", f"{base}/runs/{run['id']}/artifacts/uploads", {"files": files})
    async with httpx.AsyncClient() as store:
        for upload in uploads["files"]:
            assert (await store.put(upload["upload_url"], content=contents[upload["path"]])).is_success
    await made.ask("POST", f"{base}/runs/{run['id']}/artifacts", {"paths": list(contents)})
    model = f"{made.marker}-m"
    made.note(artifact=f"runs/{run['id']}/artifacts/{files[0]['path']}")
    asked = {"run_id": run["id"], "flavour": "onnx", "artifacts": list(contents), "description": made.marker}
    version = await made.ask("POST", f"{base}/models/{model}/versions", asked)
    await VersionReconciler(made.edge.db, made.edge.objects).run_once()
    await made.ask("PUT", f"{base}/models/{model}/aliases/{made.marker}", {"version": "1"})
    made.note(model=model, version="1", alias=made.marker)
    await create_governance(made, f"{base}/models/{model}")
    made.note(kind="run", name=run["id"])
    made.note(kind="model_version", name=version["id"])
    await create_by_mlflow(made, run["id"])


async def create_governance(made: Made, model: str) -> None:
    """What is said of a version, and what its alias asks for."""
    version = f"{model}/versions/1"
    await made.ask("POST", f"{version}/reviews/request", {"reason": made.marker})
    await made.ask("PUT", f"{version}/checks/{made.marker}", {"state": "passed", "summary": made.marker, "metrics": {made.marker: 1}})
    made.note(check=made.marker)
    await made.ask("PUT", f"{model}/protections/{made.marker}", {"required_checks": [made.marker], "thresholds": [f"{made.marker} >= 1"]})
    await made.ask("PUT", f"{model}/review-rules", {"self_approval": True})
    signed = await made.ask("POST", f"{version}/exceptions", {"finding": "pickle", "reason": made.marker})
    made.note(exception_id=signed["id"])


async def create_by_mlflow(made: Made, run_id: str) -> None:
    """What only clients of MLflow's protocol make."""
    base, tag = "/api/2.0/mlflow", {"key": made.marker, "value": made.marker}
    experiment = (await made.ask("POST", f"{base}/experiments/create", {"name": f"{made.marker}-x", "tags": [tag]}))["experiment_id"]
    asked = {"experiment_id": experiment, "name": f"{made.marker}-l", "source_run_id": run_id, "tags": [tag], "params": [tag]}
    made.note(logged_model=(await made.ask("POST", f"{base}/logged-models", asked))["model"]["info"]["model_id"], tag=made.marker)
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    info = {"trace_id": f"tr-{made.marker}", "trace_location": location, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    await made.ask("POST", "/api/3.0/mlflow/traces", {"trace": {"trace_info": {**info, "request_preview": made.marker}}})
    said = {"assessment": {"assessment_name": made.marker, "feedback": {"value": True}}}
    given = (await made.ask("POST", f"/api/3.0/mlflow/traces/{info['trace_id']}/assessments", said))["assessment"]["assessment_id"]
    made.note(trace_id=info["trace_id"], assessment_id=given)
    asked = {"name": made.marker, "experiment_ids": [experiment], "tags": json.dumps({made.marker: made.marker})}
    dataset = (await made.ask("POST", "/api/3.0/mlflow/datasets/create", asked))["dataset"]["dataset_id"]
    records = json.dumps([{"inputs": {made.marker: made.marker}}])
    await made.ask("POST", f"/api/3.0/mlflow/datasets/{dataset}/records", {"records": records})
    scorer = {"experiment_id": experiment, "name": made.marker, "serialized_scorer": made.marker}
    await made.ask("POST", "/api/3.0/mlflow/scorers/register", scorer)
    made.note(dataset_id=dataset, key=made.marker, experiment_id=experiment)


def _graph(marker: str) -> bytes:
    """The smallest ONNX model: it adds its input to itself."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], marker, value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


async def create_deployengine(made: Made) -> None:
    endpoint = await made.ask("POST", "/v1/deployengine/endpoints", {"name": f"{made.marker}-ep", "model": f"{made.marker}-m@1"})
    made.note(endpoint=endpoint["name"])
    made.note(endpoint=endpoint["id"])
    made.note(kind="endpoint", name=endpoint["id"])


async def create_trainos(made: Made) -> None:
    code = hashlib.sha256(made.marker.encode()).hexdigest()
    await made.ask("POST", "/v1/trainos/code", {"sha256": code, "size_bytes": 10})
    asked = {"name": f"{made.marker}-job", "command": ["echo", made.marker], "experiment": f"{made.marker}-e"}
    job = await made.ask("POST", "/v1/trainos/jobs", asked)
    made.note(job=job["name"])
    made.note(job=job["id"])
    made.note(checkpoint="latest")
    made.note(kind="job", name=job["id"])
    schedule = {"name": f"{made.marker}-schedule", "cron": "0 3 * * *", "job": asked}
    made.note(schedule=(await made.ask("POST", "/v1/trainos/schedules", schedule))["name"])
    await create_reproduction(made, asked)
    await create_studies(made)
    await create_reads(made)


async def create_reproduction(made: Made, asked: dict[str, Any]) -> None:
    """A run that reproduces one that was cancelled."""
    job = await made.ask("POST", "/v1/trainos/jobs", asked)
    await made.ask("POST", f"/v1/trainos/jobs/{job['id']}/cancel")
    made.note(reproduction=(await made.ask("POST", "/v1/trainos/reproductions", {"run_id": job["run_id"]}))["run_id"])


async def create_studies(made: Made) -> None:
    """A study; its trials are begun by its own job only, and there is none here."""
    space = {"lr": {"kind": "categorical", "choices": [made.marker]}}
    asked = {"name": f"{made.marker}-s", "command": [made.marker], "space": space, "objectives": [{"metric": made.marker}]}
    study = await made.ask("POST", "/v1/studies", asked)
    made.example("POST /v1/studies", asked | {"name": f"{made.marker}-s2"})
    made.note(study=study["name"])
    made.note(study=study["id"])


async def create_costoptimizer(made: Made) -> None:
    await made.ask("PUT", "/v1/costoptimizer/prices/cpu", {"micro_usd": 1, "source": made.marker})
    whoami = await made.ask("GET", "/v1/securityvault/whoami")
    owner, lease = str(new_id()), str(new_id())
    data = {"lease_id": lease, "owner_kind": "job", "owner_id": owner, "owner_name": made.marker, "at": "2026-01-01T00:00:00+00:00",
            "resources": {"cpu": 1.0, "gpu": 0.0, "memory_gib": 1.0}}  # fmt: skip
    async with made.edge.db.platform() as conn:
        await publish(conn, Event("trainos.lease.opened", owner, whoami["organisation_id"], whoami["project_id"], "test", data))
    while await consume_batch(made.edge.db, costoptimizer.CONSUMER, costoptimizer.record_leases):
        pass
    await made.ask("PUT", "/v1/costoptimizer/budget", {"micro_usd": 10**15})
    made.note(owner_kind="job", owner_id=owner, resource="cpu")


async def create_events(made: Made) -> None:
    """Everything above has left its events."""


CREATORS: dict[str, Callable[[Made], Awaitable[None]]] = {
    "securityvault": create_securityvault,
    "dataforge": create_dataforge,
    "modelhub": create_modelhub,
    "trainos": create_trainos,
    "deployengine": create_deployengine,
    "costoptimizer": create_costoptimizer,
    "events": create_events,
}


async def create_everything(client: httpx.AsyncClient, edge: Edge, marker: str) -> Made:
    """One of everything, in the order of the dictionary."""
    made = Made(marker, client, edge)
    for create in CREATORS.values():
        await create(made)
    return made
