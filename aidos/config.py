"""The client's settings: arguments, then the environment, then what ``aidos login`` wrote, then the defaults."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_cache_path, user_config_path

from aidos.errors import InvalidRequest

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class ClientConfig:
    """How to reach the platform, as whom, and how patiently."""

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    project: str | None = None
    token_file: Path | None = None
    """A file with the token, read again when it is refused: how a job follows its renewed token."""
    directory: Path = Path()
    """Where sign-ins are kept."""
    timeout_s: float = 30.0
    traceparent: str | None = None
    """The trace that the calls belong to (W3C Trace Context): a job's is the one that it was submitted in."""
    retry_budget_s: float = 60.0
    """How long one call goes on trying before it fails: longer than a restart of the platform takes."""


def read_config(url: str | None = None, api_key: str | None = None, project: str | None = None) -> ClientConfig:
    """``AIDOS_URL``, ``AIDOS_API_KEY``, ``AIDOS_TOKEN_FILE``, ``AIDOS_PROJECT``, ``AIDOS_TIMEOUT_S``, ``AIDOS_RETRY_BUDGET_S``,
    ``AIDOS_CONFIG_DIR`` and ``TRACEPARENT``, under the given arguments. Raises: InvalidRequest for a value of the wrong kind."""
    environment = os.environ
    token_file = environment.get("AIDOS_TOKEN_FILE")
    return ClientConfig(
        url=_checked_url(url or environment.get("AIDOS_URL") or DEFAULT_URL),
        api_key=_header_value("AIDOS_API_KEY", api_key or environment.get("AIDOS_API_KEY")),
        project=_header_value("AIDOS_PROJECT", project or environment.get("AIDOS_PROJECT")),
        token_file=Path(token_file) if token_file else None,
        directory=config_directory(),
        traceparent=_traceparent(environment.get("TRACEPARENT", "")),
        timeout_s=_seconds("AIDOS_TIMEOUT_S", ClientConfig.timeout_s),
        retry_budget_s=_seconds("AIDOS_RETRY_BUDGET_S", ClientConfig.retry_budget_s),
    )


@dataclass(frozen=True)
class JobConfig:
    """The job that this process belongs to, as TrainOS put it into the environment; without one, what a script needs to run alone."""

    id: str | None = None
    name: str = ""
    attempt: int = 1
    run_id: str | None = None
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Of Ray's nodes, those that jobs are for, as Ray Train's ``ScalingConfig`` takes it; empty: all of them."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Commit id by the reference that was given at submit, such as ``digits@main``."""
    resumed_job: str | None = None
    resumed_step: int | None = None
    """The job whose checkpoint this one begins with, and its step; the latest where that is None."""
    array_id: str | None = None
    array_index: int | None = None
    array_size: int | None = None
    """Of a job of an array: which one it is, and of how many."""


def job() -> JobConfig:
    """``AIDOS_JOB_ID`` and its like; ``id`` is None outside of a job."""
    environment = os.environ
    if not environment.get("AIDOS_JOB_ID"):
        return JobConfig(run_id=environment.get("AIDOS_RUN_ID"))
    resumed_job, _, resumed_step = environment.get("AIDOS_RESUME_FROM", "").partition("@")
    return JobConfig(
        id=environment["AIDOS_JOB_ID"],
        name=environment.get("AIDOS_JOB_NAME", ""),
        attempt=int(environment.get("AIDOS_JOB_ATTEMPT", "1")),
        run_id=environment.get("AIDOS_RUN_ID"),
        workers=int(environment.get("AIDOS_WORKERS", "1")),
        cpus_per_worker=float(environment.get("AIDOS_CPUS_PER_WORKER", "1")),
        gpus_per_worker=float(environment.get("AIDOS_GPUS_PER_WORKER", "0")),
        label_selector=json.loads(environment.get("AIDOS_LABEL_SELECTOR", "{}")),
        datasets=json.loads(environment.get("AIDOS_DATASETS", "{}")),
        resumed_job=resumed_job or None,
        resumed_step=_whole(resumed_step),
        array_id=environment.get("AIDOS_ARRAY_ID"),
        array_index=_whole(environment.get("AIDOS_ARRAY_INDEX")),
        array_size=_whole(environment.get("AIDOS_ARRAY_SIZE")),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def preempted() -> bool:
    """Whether this job was asked to give way: it saves a checkpoint now, and is stopped once that is whole. False outside of a job.

    A job that saves none within the time that it is given is stopped too, and goes on later from its latest one. A command to which this
    said True and that ends with exit code 0 has given way as well: the job is begun again, and one that had finished finds nothing to do.
    """
    token_file = os.environ.get("AIDOS_TOKEN_FILE")
    asked = bool(token_file) and Path(str(token_file)).with_name("preempted").exists()
    if asked:
        with contextlib.suppress(FileNotFoundError):  # the folder goes when the job's last process does
            Path(str(token_file)).with_name("heard").touch()
    return asked


def ray_address() -> str:
    """``RAY_ADDRESS``, as Ray tells it to the programs of jobs. Raises: InvalidRequest where it is not set, rather than begin a cluster."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise InvalidRequest(reason="RAY_ADDRESS must name the cluster and is not set: this program is begun by the platform, as a job.")
    return address


@dataclass(frozen=True)
class TrialConfig:
    """The trial of a study that this process belongs to; ``study`` is None where it belongs to none."""

    study: str | None = None
    number: int | None = None
    attempt: int = 1
    metric: str = ""
    """The first objective."""
    judged: bool = True
    """Whether a report is answered by the pruner."""
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    checkpoint: str | None = None
    """The folder with the state that it goes on from, and where it leaves its own."""
    last_reports: str | None = None
    """The file for what it has measured when it ends: that is sent with the word that it has ended."""


def trial() -> TrialConfig:
    """``AIDOS_TRIAL``, ``AIDOS_TRIAL_CHECKPOINT`` and ``AIDOS_TRIAL_LAST_REPORTS``, as a study's job wrote them."""
    told = json.loads(os.environ.get("AIDOS_TRIAL") or "{}")
    checkpoint, last_reports = os.environ.get("AIDOS_TRIAL_CHECKPOINT"), os.environ.get("AIDOS_TRIAL_LAST_REPORTS")
    return TrialConfig(**told, checkpoint=checkpoint, last_reports=last_reports)


def config_directory() -> Path:
    """``AIDOS_CONFIG_DIR``, or the place that the operating system has for it (``~/.config/aidos``)."""
    given = os.environ.get("AIDOS_CONFIG_DIR")
    return Path(given).expanduser() if given else user_config_path("aidos", appauthor=False)


def cache_directory() -> Path:
    """``AIDOS_CACHE_DIR``, or the place that the operating system has for it (``~/.cache/aidos``): all in it can be made again."""
    given = os.environ.get("AIDOS_CACHE_DIR")
    return Path(given).expanduser() if given else user_cache_path("aidos", appauthor=False)


def offline_directory() -> Path:
    """``AIDOS_OFFLINE_DIR``, or ``offline`` in ``AIDOS_HOME`` (``~/.aidos``): runs that the platform has not got yet. Nothing in it is elsewhere."""
    given = os.environ.get("AIDOS_OFFLINE_DIR")
    return Path(given or Path(os.environ.get("AIDOS_HOME") or "~/.aidos") / "offline").expanduser().absolute()


def system_metrics_s() -> float:
    """``AIDOS_SYSTEM_METRICS_S``: how often a run notes how the machine does; 0 is never. Raises: InvalidRequest."""
    return _seconds("AIDOS_SYSTEM_METRICS_S", 10.0)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not any(sign.isspace() for sign in url)
    except ValueError:  # of the port, or of an IPv6 address
        whole = False
    if not whole:
        raise InvalidRequest(
            reason=f"The URL of the platform must be http://HOST[:PORT] or https://HOST[:PORT], got {url!r}. Set AIDOS_URL or --url."
        )
    return url.rstrip("/")


def _header_value(name: str, value: str | None) -> str | None:
    value = value.strip() if value else None
    if value and not (value.isascii() and value.isprintable()):
        raise InvalidRequest(reason=f"{name} must be printable ASCII, without line breaks.")
    return value or None


def _traceparent(value: str) -> str | None:
    """Other tools set it too: what is no traceparent of ours to send is none."""
    return value if _TRACEPARENT.fullmatch(value) else None


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 86_400:
        raise InvalidRequest(reason=f"{name} must be a number of seconds, got {text!r}.")
    return value


def debug_wanted() -> bool:
    """``AIDOS_DEBUG=1``: a failed command also prints its traceback."""
    return os.environ.get("AIDOS_DEBUG", "") not in {"", "0"}
