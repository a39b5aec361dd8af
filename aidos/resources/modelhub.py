"""Experiments, runs, models and lineage, as the client sees them. ``aidos.run()`` builds on these."""

from __future__ import annotations

from typing import Any

from aidos.http.operation import Resource, operation
from aidos.schemas.comparisons import ComparisonCreate, ComparisonRead
from aidos.schemas.governance import (
    AliasMoveRead,
    AliasProtectionRead,
    AliasProtectionSet,
    DeprecationSet,
    ExceptionRead,
    ExceptionSign,
    ReviewRequest,
    ReviewRules,
    VersionCheckRead,
    VersionCheckSet,
    VersionReviewCreate,
    VersionReviewRead,
    VersionStandingRead,
)
from aidos.schemas.lineage import ImpactRead, RunEventRead
from aidos.schemas.modelhub import (
    AliasMove,
    ArtifactList,
    ArtifactPaths,
    ArtifactRead,
    ArtifactsAnnounce,
    ArtifactUploads,
    ExperimentCreate,
    ExperimentRead,
    FileDownloads,
    GraphRead,
    MetricsLog,
    ModelCreate,
    ModelRead,
    ParamsLog,
    PointRead,
    RunCreate,
    RunRead,
    RunUpdate,
    TagsSet,
    VersionCreate,
    VersionRead,
    VersionUpdate,
)
from aidos.schemas.reproductions import ReproductionCreate, ReproductionRead
from aidos.schemas.trainos import JobRead

_HUB = "/v1/modelhub"
_RUN = f"{_HUB}/runs/{{run_id}}"
_MODEL = f"{_HUB}/models/{{model}}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_ALIAS = f"{_MODEL}/aliases/{{alias}}"
_REPRODUCTIONS = "/v1/trainos/reproductions"
_TOLERANCES: dict[str, Any] = {"tolerance": float, "metric": list[str], "wait": str}
_EXPERIMENT = f"{_HUB}/experiments/{{experiment}}"


class Experiments(Resource):
    """Groups of runs that ask the same question."""

    noun = "experiment"

    create = operation(
        "POST", f"{_HUB}/experiments", body=ExperimentCreate, returns=ExperimentRead, positional=("name",), help="Create an experiment."
    )
    list = operation("GET", f"{_HUB}/experiments", returns=ExperimentRead, paged=True, help="The project's experiments, newest first.")
    get = operation("GET", _EXPERIMENT, returns=ExperimentRead, help="One experiment, by name or id.")
    delete = operation("DELETE", _EXPERIMENT, help="Delete an experiment with its runs; models that came of them stay.")


class Runs(Resource):
    """Trainings and trials: what went in, what was measured, what came out."""

    noun = "run"

    create = operation("POST", f"{_HUB}/runs", body=RunCreate, returns=RunRead, help="Begin a run.")
    list = operation(
        "GET",
        f"{_HUB}/runs",
        returns=RunRead,
        paged=True,
        query={"experiment": str, "state": str, "job_id": str, "query": str},
        help="The project's runs, newest first; --query 'metrics.acc > 0.9 and cost_usd < 2' those of which it holds.",
    )
    get = operation("GET", _RUN, returns=RunRead, query={"wait": str}, help="One run; --wait 30s answers once it has ended.")
    compare = operation(
        "POST", f"{_HUB}/comparisons", body=ComparisonCreate, returns=ComparisonRead, help="What differs between runs, and their curves."
    )
    update = operation("PATCH", _RUN, body=RunUpdate, returns=RunRead, help="Rename, end or resume a run.")
    delete = operation("DELETE", _RUN, help="Delete a run.")
    log_params = operation("POST", f"{_RUN}/params", body=ParamsLog, help="Set parameters, each once.")
    set_tags = operation("POST", f"{_RUN}/tags", body=TagsSet, help="Set tags; null removes one.")
    log_metrics = operation("POST", f"{_RUN}/metrics", body=MetricsLog, help="Append points to metrics.")
    history = operation(
        "GET",
        f"{_RUN}/metrics",
        returns=PointRead,
        paged=True,
        query={"key": (str, ...), "points": int},
        help="One metric by step; --points 500 keeps the extremes of so many.",
    )
    announce = operation(
        "POST", f"{_RUN}/artifacts/uploads", body=ArtifactsAnnounce, returns=ArtifactUploads, help="Ask where to upload artifacts."
    )
    complete = operation(
        "POST", f"{_RUN}/artifacts", body=ArtifactPaths, returns=ArtifactList, help="Have uploaded artifacts checked and known."
    )
    artifacts = operation(
        "GET", f"{_RUN}/artifacts", returns=ArtifactRead, paged=True, query={"prefix": (str, "")}, help="A run's artifacts by path."
    )
    downloads = operation(
        "POST", f"{_RUN}/artifacts/downloads", body=ArtifactPaths, returns=FileDownloads, help="Presigned URLs of artifacts."
    )
    reproduce = operation(
        "POST",
        _REPRODUCTIONS,
        body=ReproductionCreate,
        returns=JobRead,
        positional=("run_id",),
        help="Run it again as a new job: the same code, command and commits.",
    )
    reproduction = operation(
        "GET",
        f"{_REPRODUCTIONS}/{{reproduction}}",
        returns=ReproductionRead,
        query=_TOLERANCES,
        help="Whether a reproduction came out as the original did; --metric acc=0.01 is the tolerance of one metric.",
    )


class Models(Resource):
    """Registered models: versions that were inspected, and aliases that point at them."""

    noun = "model"

    create = operation("POST", f"{_HUB}/models", body=ModelCreate, returns=ModelRead, positional=("name",), help="Create a model.")
    list = operation("GET", f"{_HUB}/models", returns=ModelRead, paged=True, help="The project's models, newest first.")
    get = operation("GET", _MODEL, returns=ModelRead, help="One model with its aliases.")
    delete = operation("DELETE", _MODEL, help="Delete a model with its versions and aliases.")
    register = operation(
        "POST", f"{_MODEL}/versions", body=VersionCreate, returns=VersionRead, help="Register artifacts of a run as the next version."
    )
    versions = operation("GET", f"{_MODEL}/versions", returns=VersionRead, paged=True, help="A model's versions, newest first.")
    version = operation(
        "GET",
        _VERSION,
        returns=VersionRead,
        query={"wait": str},
        help="One version, by number, alias or `latest`; --wait 30s answers once it was inspected.",
    )
    update_version = operation(
        "PATCH", _VERSION, body=VersionUpdate, returns=VersionRead, help="Change a version's description, card or tags."
    )
    delete_version = operation("DELETE", _VERSION, help="Delete a version that no alias points at.")
    downloads = operation("POST", f"{_VERSION}/downloads", returns=FileDownloads, help="Presigned URLs of a version's files.")
    set_alias = operation("PUT", _ALIAS, body=AliasMove, returns=VersionRead, help="Point an alias at a READY version, in one step.")
    delete_alias = operation("DELETE", _ALIAS, help="Delete an alias; its version stays.")
    roll_back_alias = operation(
        "POST", f"{_ALIAS}/rollback", returns=VersionRead, help="Point an alias at the version that it named before its last move."
    )
    alias_moves = operation("GET", f"{_ALIAS}/moves", returns=AliasMoveRead, paged=True, help="Who moved an alias, from what to what.")
    protect = operation(
        "PUT",
        f"{_MODEL}/protections/{{alias}}",
        body=AliasProtectionSet,
        returns=AliasProtectionRead,
        help="Say what an alias asks of a version.",
    )
    unprotect = operation("DELETE", f"{_MODEL}/protections/{{alias}}", help="An alias then names any version.")
    protections = operation(
        "GET", f"{_MODEL}/protections", returns=AliasProtectionRead, paged=True, help="Protected aliases, and what they ask for."
    )
    set_review_rules = operation(
        "PUT", f"{_MODEL}/review-rules", body=ReviewRules, returns=ModelRead, help="Say who may approve the model's versions."
    )
    request_review = operation(
        "POST",
        f"{_VERSION}/reviews/request",
        body=ReviewRequest,
        returns=VersionReviewRead,
        help="Ask for approval; what was said before counts no more.",
    )
    review = operation(
        "POST",
        f"{_VERSION}/reviews",
        body=VersionReviewCreate,
        returns=VersionReviewRead,
        help="Approve or reject a version, with the reason.",
    )
    reviews = operation("GET", f"{_VERSION}/reviews", returns=VersionReviewRead, paged=True, help="What was said of a version, in order.")
    set_check = operation(
        "PUT", f"{_VERSION}/checks/{{check}}", body=VersionCheckSet, returns=VersionCheckRead, help="Say what a check found of a version."
    )
    checks = operation(
        "GET", f"{_VERSION}/checks", returns=VersionCheckRead, paged=True, help="The latest word of each check on a version."
    )
    status = operation("GET", f"{_VERSION}/status", returns=VersionStandingRead, help="What a version lacks for each protected alias.")
    sign_exception = operation(
        "POST", f"{_VERSION}/exceptions", body=ExceptionSign, returns=ExceptionRead, help="Answer for something that the scan found."
    )
    exceptions = operation(
        "GET",
        f"{_VERSION}/exceptions",
        returns=ExceptionRead,
        paged=True,
        help="A version's exceptions, newest first, and whether they hold.",
    )
    revoke_exception = operation("DELETE", f"{_VERSION}/exceptions/{{exception_id}}", help="Take an exception back.")
    deprecate = operation(
        "PUT", f"{_VERSION}/deprecation", body=DeprecationSet, returns=VersionRead, help="No endpoint takes the version up from now on."
    )
    restore = operation("DELETE", f"{_VERSION}/deprecation", returns=VersionRead, help="Take the deprecation of a version back.")


_GRAPH: dict[str, Any] = {"direction": str, "depth": int, "files": int}


class Lineage(Resource):
    """The graph from the raw file to the prediction."""

    noun = "graph"
    plural = "lineage"

    get = operation(
        "GET", f"{_HUB}/lineage/{{kind}}/{{name}}", returns=GraphRead, query=_GRAPH, help="What a thing came from and what came of it."
    )
    affected = operation(
        "GET",
        f"{_HUB}/lineage/{{kind}}/{{name}}/affected",
        returns=ImpactRead,
        query={"only": list[str], "live": bool},
        help="What a thing has gone into; --live only endpoints that answer with it now.",
    )
    events = operation(
        "GET", f"{_HUB}/lineage/events", returns=RunEventRead, paged=True, help="What runs read and made, as events of OpenLineage."
    )
