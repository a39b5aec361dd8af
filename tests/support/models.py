"""Model versions made the way that they are made in life: uploaded, registered, inspected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from uuid import UUID

import numpy as np
from safetensors.numpy import save as save_safetensors

from actors.modelhub import service as modelhub
from actors.modelhub.models import ArtifactSpec, Flavour, ModelVersion, RunSpec, VersionSpec, VersionState
from actors.modelhub.reconciler import VersionReconciler
from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.objects import Objects
from tests.support.onnx_models import linear


async def ready_version(database: Database, scope: Scope, model: str, flavour: str = "onnx") -> UUID:
    """Register the next version of ``model`` and see it READY; its id."""
    data = linear() if flavour == "onnx" else save_safetensors({"weights": np.ones((4, 3), dtype=np.float32)})
    path = "model.onnx" if flavour == "onnx" else "model.safetensors"
    ready = await inspected_version(database, scope, model, {path: data}, Flavour(flavour))
    assert ready.state is VersionState.READY, ready.reason
    return ready.id


async def inspected_version(
    database: Database, scope: Scope, model: str, files: Mapping[str, bytes], flavour: Flavour = Flavour.ONNX
) -> ModelVersion:
    """The next version of ``model``, of these files, as its inspection left it."""
    objects = Objects(database.settings)
    await objects.ensure_bucket()
    specs = [ArtifactSpec(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()]
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        run = await modelhub.create_run(conn, scope, RunSpec(experiment="tests"))
        artifacts = await modelhub.announce_artifacts(conn, scope, run.id, specs)
    for artifact in artifacts:
        await objects.put(artifact.key, files[artifact.path])
    measured = await modelhub.measure(objects, artifacts)
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        await modelhub.complete_artifacts(conn, scope, run.id, artifacts, measured)
        version = await modelhub.register_version(conn, scope, model, VersionSpec(run.id, flavour, tuple(files)))
    await VersionReconciler(database, objects).run_once("tests")
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await modelhub.get_version(conn, scope, model, str(version.version))
