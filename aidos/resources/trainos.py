"""Jobs and their checkpoints, as the client sees them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.checkpoints import CheckpointCreate, CheckpointUpload, CheckpointUploadRead, JobCheckpointRead
from aidos.schemas.queue import HistoryRead, QueueRead, QuotaBody, QuotaRead
from aidos.schemas.trainos import (
    CodeUpload,
    CodeUploadRead,
    JobChange,
    JobCreate,
    JobOutlook,
    JobRead,
    JobResume,
    JobSecretsRead,
    LogLineRead,
    LogRead,
    LogText,
)

_ONE = "/v1/trainos/jobs/{job}"
_SEARCH = {"word": str, "rank": int, "follow": bool}
_LOGS = {"after": int, "limit": int, "wait": str}


class Jobs(Resource):
    """Programs that run on the cluster: training, tuning, pipelines."""

    noun = "job"

    upload = operation(
        "POST", "/v1/trainos/code", body=CodeUpload, returns=CodeUploadRead, help="Ask where to upload a packed code directory."
    )
    create = operation(
        "POST",
        "/v1/trainos/jobs",
        body=JobCreate,
        returns=JobRead,
        positional=("name",),
        help="Queue a job whose code is uploaded already.",
    )
    outlook = operation(
        "POST",
        "/v1/trainos/jobs/outlook",
        body=JobCreate,
        returns=JobOutlook,
        positional=("name",),
        help="When a job would start and end if it were submitted now.",
    )
    list = operation(
        "GET", "/v1/trainos/jobs", returns=JobRead, paged=True, query={"state": str, "array": str}, help="The project's jobs, newest first."
    )
    get = operation("GET", _ONE, returns=JobRead, query={"wait": str}, help="One job; --wait 30s answers once it has ended.")
    cancel = operation("POST", f"{_ONE}/cancel", returns=JobRead, help="End a job.")
    update = operation("PATCH", _ONE, body=JobChange, returns=JobRead, help="Give a job another priority.")
    hold = operation("POST", f"{_ONE}/hold", returns=JobRead, help="Keep a job that waits from starting.")
    release = operation("POST", f"{_ONE}/release", returns=JobRead, help="Let a held job start in its turn.")
    resume = operation(
        "POST", f"{_ONE}/resume", body=JobResume, returns=JobRead, help="Queue a job that goes on from a checkpoint of one that has ended."
    )
    secrets = operation("POST", f"{_ONE}/secrets", returns=JobSecretsRead, help="The secrets of a job, for its own processes alone.")
    chunks = operation("GET", f"{_ONE}/logs", returns=LogRead, query=_LOGS, help="Where the pieces of a job's log are stored.")
    search = operation(
        "GET", f"{_ONE}/logs/search", returns=LogLineRead, stream=True, query=_SEARCH, help="The lines of the log with a word in them."
    )
    stream = operation("GET", f"{_ONE}/logs/stream", returns=LogText, stream=True, help="The log as server-sent events.")


class Queue(Resource):
    """Who holds what, who waits, and why."""

    noun = "queue"

    get = operation(
        "GET",
        "/v1/trainos/queue",
        returns=QueueRead,
        query={"limit": int},
        help="What holds resources, then what waits, in order, and why.",
    )
    history = operation(
        "GET",
        "/v1/trainos/queue/history",
        returns=HistoryRead,
        query={"days": int, "limit": int},
        help="The project's jobs that have ended, as a trace to replay.",
    )


class Quotas(Resource):
    """What a project may hold at once."""

    noun = "quota"

    get = operation("GET", "/v1/trainos/quota", returns=QuotaRead, help="The project's quota.")
    set = operation("PUT", "/v1/trainos/quota", body=QuotaBody, returns=QuotaRead, help="Set it, as an operator: --nominal '{\"gpu\": 4}'.")


class Checkpoints(Resource):
    """What a job can be taken up again from."""

    noun = "checkpoint"

    upload = operation(
        "POST", f"{_ONE}/checkpoints/uploads", body=CheckpointUpload, returns=CheckpointUploadRead, help="Ask where to upload its files."
    )
    create = operation(
        "POST", f"{_ONE}/checkpoints", body=CheckpointCreate, returns=JobCheckpointRead, help="List a checkpoint that is uploaded."
    )
    list = operation(
        "GET", f"{_ONE}/checkpoints", returns=JobCheckpointRead, paged=True, help="A job's checkpoints, the highest step first."
    )
    get = operation(
        "GET",
        f"{_ONE}/checkpoints/{{checkpoint}}",
        returns=JobCheckpointRead,
        help="One checkpoint (latest, a step or an id) with its files' URLs.",
    )
