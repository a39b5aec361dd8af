"""What TrainOS refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound, Unavailable


class JobNotFound(NotFound):
    title = "Job not found"
    detail = "There is no job '{name}' here. 'aidos job list' shows the project's jobs."


class CheckpointNotFound(NotFound):
    title = "Checkpoint not found"
    detail = "Job '{job}' has no checkpoint '{name}'. 'aidos checkpoint list' shows those that are complete."


class CheckpointIncomplete(InvalidPayload):
    title = "Checkpoint is incomplete"
    detail = "File '{path}' has {actual} bytes in the store and should have {expected}. Upload it and complete the checkpoint again."


class CheckpointExists(Conflict):
    title = "Checkpoint exists"
    detail = "Job '{job}' already has another checkpoint of step {step}. A step is saved once."


class JobEnded(Conflict):
    title = "Job has ended"
    detail = "Job '{job}' is {state}: only a job that has not ended can be changed."


class JobNotWaiting(Conflict):
    title = "Job does not wait"
    detail = "Job '{job}' is {state}: only a job that is QUEUED can be held and released. 'aidos job cancel' ends one that runs."


class JobNotEnded(Conflict):
    title = "Job has not ended"
    detail = "Job '{job}' is {state}: only a job that has ended is resumed. 'aidos job wait {job}' waits for it, 'aidos job cancel {job}' ends it."


class JobNotRunning(Conflict):
    title = "Job does not run"
    detail = "Job '{job}' is {state}: only a job whose command runs can be entered. 'aidos job get {job}' says what it waits for."


class JobIsArray(Conflict):
    title = "Job is an array"
    detail = "'{job}' is an array: each of its jobs has a log of its own. 'aidos job list --array {job}' names them."


class JobSandboxed(Conflict):
    title = "Job is sandboxed"
    detail = (
        "Job '{job}' runs in a sandbox, and nobody enters one. Run a command in a job of trusted code, or submit another with --sandbox."
    )


class JobUnreachable(Unavailable):
    title = "Job cannot be entered now"
    detail = "Nothing answers for job '{job}' on its node: its command is about to begin or has just ended. Try again in {retry_after_s} s."


class JobTooLarge(Conflict):
    title = "Job is larger than the cluster"
    detail = "Job '{job}' {reason}. Ask for less, or have nodes added."


class ScheduleNotFound(NotFound):
    title = "Schedule not found"
    detail = "There is no schedule '{name}' here. 'aidos schedule list' shows the project's schedules."


class ScheduleExists(Conflict):
    title = "Schedule exists"
    detail = "The project has a schedule '{name}' already. Choose another name, or delete it first."


class SandboxUnfit(InvalidPayload):
    title = "Job does not fit a sandbox"
    detail = "Untrusted job '{job}' {reason}."


class SecretUnknown(InvalidPayload):
    title = "Secret is unknown"
    detail = "The project has no secret '{name}', which the job wants as {variable}. 'aidos secret list' names those that it has."


class ScheduleInvalid(InvalidPayload):
    title = "Schedule is wrong"
    detail = "{reason}. Write minute, hour, day of the month, month and day of the week, as '0 3 * * *', and a zone as Europe/Berlin."


class DatasetReferenceInvalid(InvalidPayload):
    title = "Dataset reference is wrong"
    detail = "'{reference}' does not name a dataset's commit. Write NAME@REF, for example digits@main."


class TraceInvalid(InvalidPayload):
    title = "Trace is wrong"
    detail = "Line {line} of {file} cannot be replayed: {reason}. A line needs id, submit_s and run_s, and what it asks for."


class QuotasInvalid(InvalidPayload):
    title = "Quotas to simulate are wrong"
    detail = "Line {line} of {file}: {reason}. A project's quota is nominal, limit and user_limit by cpu, gpu and memory_gib, and a weight."


class ClusterInvalid(InvalidPayload):
    title = "Cluster to simulate is wrong"
    detail = "'{given}' is not COUNTxCPU:GPU:MEMORY_GIB, such as 10x32:8:256 or 4x16; several are parted by commas."
