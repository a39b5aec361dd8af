"""The environment of a job's processes: the one place that reads and writes it. No secret is ever in it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tune.trainos.models import Job

# Where the platform keeps its keys is no business of a job's code. (Within one trust domain this is tidiness, not a wall.)
_HIDDEN = ("AIDOS_HOME", "AIDOS_API_KEY")
_REQUIREMENTS = "AIDOS_REQUIREMENTS"
_PACKAGED_HOOK = "tune.trainos.packaged_worker.setup"
# Ray's names: of what a driver reads as its job's configuration, and of the hook in its workers' environment.
_JOB_CONFIG, _HOOK = "RAY_JOB_CONFIG_JSON_ENV_VAR", "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"

STOP_GRACE_S = 3
"""From SIGTERM to SIGKILL. Ray's own SIGKILL comes later."""


def build_job_environment(job: Job, url: str, free_disk_bytes: int) -> dict[str, str]:
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
    if job.spec.resume_from is not None:
        environment["AIDOS_RESUME_FROM"] = job.spec.resume_from
    if job.run_id is not None:
        environment["AIDOS_RUN_ID"] = str(job.run_id)
    if job.traceparent is not None:
        environment["TRACEPARENT"] = job.traceparent
    return environment


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


def find_requirements() -> Path:
    """What this Ray worker's packages are to be made of. Raises: KeyError where its job asked for none."""
    return Path(os.environ[_REQUIREMENTS])


def set_token_file(path: Path) -> None:
    """For code that will run in this process."""
    os.environ["AIDOS_TOKEN_FILE"] = str(path)
    for name in _HIDDEN:
        os.environ.pop(name, None)
