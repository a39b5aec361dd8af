"""The environment of a job's processes: the one place that reads and writes it. No secret is ever in what Ray is told of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tune.trainos.models import Job, Trust

# Where the platform keeps its keys is no business of a job's code. (Within one trust domain this is tidiness, not a wall.)
_HIDDEN = ("AIDOS_HOME", "AIDOS_API_KEY")
_REQUIREMENTS = "AIDOS_REQUIREMENTS"
_SECRETS, _FETCHES_SECRETS = "AIDOS_SECRETS", "AIDOS_FETCHES_SECRETS"
_PACKAGED_HOOK = "tune.trainos.packaged_worker.setup"
# Ray's names: of what a driver reads as its job's configuration, and of the hook in its workers' environment.
_JOB_CONFIG, _HOOK = "RAY_JOB_CONFIG_JSON_ENV_VAR", "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"

STOP_GRACE_S = 3
"""From SIGTERM to SIGKILL. Ray's own SIGKILL comes later."""


_SANDBOX_MEMORY, _SANDBOX_STORE = "AIDOS_SANDBOX_MEMORY_BYTES", "AIDOS_SANDBOX_STORE"
# What untrusted code finds of all that its node's processes have: all others are left out, whatever they are.
_SHOWN_IN_SANDBOX = (
    *("AIDOS_PROJECT", "AIDOS_JOB_ID", "AIDOS_JOB_NAME", "AIDOS_JOB_ATTEMPT", "AIDOS_RUN_ID", "AIDOS_DATASETS", "AIDOS_INPUT_COMMITS"),
    *("AIDOS_WORKERS", "AIDOS_CPUS_PER_WORKER", "AIDOS_GPUS_PER_WORKER", "AIDOS_RESUME_FROM"),
    *("AIDOS_ARRAY_ID", "AIDOS_ARRAY_INDEX", "AIDOS_ARRAY_SIZE"),
    *("AIDOS_CODE_SHA256", "AIDOS_CODE_COMMIT", "TRACEPARENT"),
)


def build_job_environment(job: Job, url: str, store_url: str, free_disk_bytes: int) -> dict[str, str]:
    """What every process of the job finds in its environment."""
    datasets = {item.reference: str(item.commit_id) for item in job.inputs}
    environment = {
        "AIDOS_URL": url,
        "AIDOS_PROJECT": str(job.project_id),
        "AIDOS_JOB_ID": str(job.id),
        "AIDOS_JOB_NAME": job.name,
        "AIDOS_JOB_ATTEMPT": str(job.attempt),
        "AIDOS_DATASETS": json.dumps(datasets),
        "AIDOS_INPUT_COMMITS": ",".join(datasets.values()),
        "AIDOS_WORKERS": str(job.spec.workers),
        "AIDOS_CPUS_PER_WORKER": f"{job.spec.cpus_per_worker:g}",
        "AIDOS_GPUS_PER_WORKER": f"{job.spec.gpus_per_worker:g}",
        "AIDOS_FREE_DISK_BYTES": str(free_disk_bytes),
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S + 5),
    }
    if job.spec.trust is Trust.UNTRUSTED:
        environment |= {_SANDBOX_STORE: store_url, _SANDBOX_MEMORY: str(int(job.spec.resources.memory_gib * 2**30))}
    if job.spec.secrets:
        environment[_SECRETS] = ",".join(job.spec.secrets)
    if job.spec.code_sha256 is not None:
        environment["AIDOS_CODE_SHA256"] = job.spec.code_sha256
    if job.spec.code is not None:
        environment["AIDOS_CODE_COMMIT"] = job.spec.code.commit
    # Ray Train's patched print writes each line twice to the log.
    environment["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    # A line of a worker's says which one's it is, and is never folded into another worker's.
    environment |= {"RAY_TRAIN_CALLBACKS": "tune.trainos.ranks.Ranks", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
    # Code finds the files of its package where it starts, in Ray Tune's trials too.
    environment["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    if job.array_id is not None:
        environment |= {
            "AIDOS_ARRAY_ID": str(job.array_id),
            "AIDOS_ARRAY_INDEX": str(job.array_index),
            "AIDOS_ARRAY_SIZE": str(job.array_size),
        }
    if job.spec.resume_from is not None:
        environment["AIDOS_RESUME_FROM"] = job.spec.resume_from
    if job.run_id is not None:
        environment["AIDOS_RUN_ID"] = str(job.run_id)
    if job.traceparent is not None:
        environment["TRACEPARENT"] = job.traceparent
    return environment


def show_selector(selector: Mapping[str, str]) -> dict[str, str]:
    """What of the environment says on which of Ray's nodes the job's actors are to run; empty where on all."""
    return {"AIDOS_LABEL_SELECTOR": json.dumps(dict(selector))} if selector else {}


@dataclass(frozen=True)
class Attempt:
    """Which attempt of which job this process belongs to."""

    job_id: str
    number: int


def find_attempt() -> Attempt | None:
    """None in a process that belongs to no job of TrainOS."""
    job_id = os.environ.get("AIDOS_JOB_ID")
    if not job_id:
        return None
    return Attempt(job_id, int(os.environ.get("AIDOS_JOB_ATTEMPT", "1")))


def own_folder() -> Path:
    """What an attempt has for itself alone on the node of its command, its code and its temporary files; gone with it."""
    attempt = find_attempt() or Attempt("process", os.getpid())
    return Path(tempfile.gettempdir(), f"aidos-work-{attempt.job_id}-{attempt.number}")


def working_folder() -> Path:
    """Where the command starts, and its Ray workers on that node."""
    return own_folder() / "work"


def free_disk_bytes() -> int:
    """Free space that a job must leave on its node's disk."""
    return int(os.environ.get("AIDOS_FREE_DISK_BYTES", "0"))


def has_code() -> bool:
    """Whether the job has a code package, that Ray unpacked where this process runs."""
    return "AIDOS_CODE_SHA256" in os.environ or "AIDOS_CODE_COMMIT" in os.environ


def has_heard() -> bool:
    """Whether the command asked, by ``aidos.preempted()``, and was told to give way."""
    token_file = os.environ.get("AIDOS_TOKEN_FILE")
    return token_file is not None and Path(token_file).with_name("heard").exists()


def is_sandboxed_with_code() -> bool:
    """Whether the process of a job belongs to an untrusted one, whose code is unpacked in its sandbox and nowhere else."""
    return _SANDBOX_STORE in os.environ and has_code()


@dataclass(frozen=True)
class SandboxOrder:
    """What the process that makes an untrusted job's sandbox was told."""

    environment: dict[str, str]
    """Of the job's command."""
    gateway: str
    store: str
    """URLs, as they are outside."""
    memory_bytes: int
    code_sha256: str | None
    files: Path
    """Where ``JobFiles`` are."""


def read_sandbox_order(gateway: str, proxy: str, exchange: str) -> SandboxOrder:
    """``gateway``, ``proxy`` and ``exchange`` are what the sandbox calls the platform, its way there, and the folder of notes."""
    python = Path(sys.executable).parent
    environment = {name: os.environ[name] for name in _SHOWN_IN_SANDBOX if name in os.environ} | {
        "AIDOS_URL": gateway,
        # There is none: the broker adds it. Notes to the job lie beside it.
        "AIDOS_TOKEN_FILE": f"{exchange}/token",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        "PATH": os.pathsep.join([str(python), os.defpath]),
        "HOME": "/job",
        "TMPDIR": "/tmp",  # noqa: S108 (the sandbox's own)
        "LANG": "C.UTF-8",
    }
    return SandboxOrder(
        environment,
        os.environ["AIDOS_URL"],
        os.environ[_SANDBOX_STORE],
        int(os.environ[_SANDBOX_MEMORY]),
        os.environ.get("AIDOS_CODE_SHA256"),
        Path(os.environ["AIDOS_TOKEN_FILE"]).parent,
    )


def build_command_environment() -> dict[str, str]:
    """For the user's command: this process's environment, with the platform's Python first on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


def build_packaged_environment(folder: Path, requirements: str) -> dict[str, str]:
    """For a command whose ``python`` is that of the virtual environment ``folder``, and whose Ray workers make theirs of ``requirements``."""
    environment = os.environ | {"PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]), "VIRTUAL_ENV": str(folder)}
    config = json.loads(environment.get(_JOB_CONFIG, "{}"))
    runtime_env = config.setdefault("runtime_env", {})
    runtime_env["worker_process_setup_hook"] = _PACKAGED_HOOK
    runtime_env.setdefault("env_vars", {}).update({_REQUIREMENTS: requirements, _HOOK: _PACKAGED_HOOK})
    return environment | {_JOB_CONFIG: json.dumps(config)}


def read_gateway() -> tuple[str, str]:
    """The platform's URL, and the job's token as it is now. Raises: OSError while there is none."""
    return os.environ["AIDOS_URL"], Path(os.environ.get("AIDOS_TOKEN_FILE", "")).read_text().strip()


def has_secrets() -> bool:
    """Whether the job's command is to find secrets in its environment."""
    return _SECRETS in os.environ


def build_secret_environment(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """For a command that finds these secrets in its environment, and whose Ray workers fetch theirs."""
    config = json.loads(environment.get(_JOB_CONFIG, "{}"))
    config.setdefault("runtime_env", {}).setdefault("env_vars", {})[_FETCHES_SECRETS] = "1"
    return {**environment, **secrets, _JOB_CONFIG: json.dumps(config)}


def fetches_secrets() -> bool:
    """Whether this is a Ray worker that a command with secrets began: the one that began the command is none."""
    return _FETCHES_SECRETS in os.environ


def put_secrets(secrets: Mapping[str, str]) -> None:
    """For code that will run in this process."""
    os.environ.update(secrets)


def find_requirements() -> Path:
    """What this Ray worker's packages are to be made of. Raises: KeyError where its job asked for none."""
    return Path(os.environ[_REQUIREMENTS])


def set_token_file(path: Path) -> None:
    """For code that will run in this process."""
    os.environ["AIDOS_TOKEN_FILE"] = str(path)
    for name in _HIDDEN:
        os.environ.pop(name, None)
