"""Model versions made the way that they are made in life: uploaded, registered, inspected."""

from __future__ import annotations

import hashlib
from uuid import UUID

import numpy as np
from safetensors.numpy import save as save_safetensors

from actors.modelhub import service as modelhub
from actors.modelhub.models import ArtifactSpec, Flavour, RunSpec, VersionSpec, VersionState
from actors.modelhub.reconciler import VersionReconciler
from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.objects import Objects
from tests.support.onnx_models import linear


async def ready_version(database: Database, scope: Scope, model: str, flavour: str = "onnx") -> UUID:
    """Register the next version of ``model`` and see it READY; its id."""
    objects = Objects(database.settings)
    await objects.ensure_bucket()
    data = linear() if flavour == "onnx" else save_safetensors({"weights": np.ones((4, 3), dtype=np.float32)})
    path = "model.onnx" if flavour == "onnx" else "model.safetensors"
    spec = ArtifactSpec(path, hashlib.sha256(data).hexdigest(), len(data))
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        run = await modelhub.create_run(conn, scope, RunSpec(experiment="tests"))
        artifacts = await modelhub.announce_artifacts(conn, scope, run.id, [spec])
    await objects.put(artifacts[0].key, data)
    measured = await modelhub.measure(objects, artifacts)
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        await modelhub.complete_artifacts(conn, scope, run.id, artifacts, measured)
        version = await modelhub.register_version(conn, scope, model, VersionSpec(run.id, Flavour(flavour), (path,)))
    await VersionReconciler(database, objects).run_once("tests")
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        ready = await modelhub.get_version(conn, scope, model, str(version.version))
    assert ready.state is VersionState.READY, ready.reason
    return ready.id
