"""Settings of the platform: read once from the environment and ``AIDOS_HOME``, then frozen.

The environment wins; what it does not say comes from ``$AIDOS_HOME/secrets/aidos_<name>`` (files of mode
0600 that ``aidos up`` writes). So a Ray worker needs only ``AIDOS_HOME``, and no secret is ever in the
environment of ``ray start``.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

SYSTEM_GROUP = {"aidos.io/group": "system"}
"""Ray label of the nodes that hold the platform's secrets. What needs them asks for it."""
USER_GROUP = {"aidos.io/group": "!system"}
"""Ray label selector of the nodes that jobs are for, where a cluster has both kinds."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(text: str) -> list[Network]:
    """Comma-separated IP addresses and networks. Raises: ValueError."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",")] if text else []


def check_networks(text: str, of: ValidationInfo) -> str:
    """Comma-separated IP addresses and networks, as they were. Raises: ValueError."""
    try:
        networks(text)
    except ValueError as error:
        raise ValueError(f"AIDOS_{str(of.field_name).upper()} must be addresses or networks, comma-separated: {error}") from None
    return text


class Settings(BaseSettings):
    """Each field is ``AIDOS_<NAME>`` in the environment; ``docs/settings.md`` documents them all."""

    model_config = SettingsConfigDict(env_prefix="AIDOS_", frozen=True, extra="ignore", populate_by_name=True)

    home: Path = Field(default_factory=lambda: home_directory(), description="Where the embedded platform keeps everything.")

    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL 18 URL; empty: the embedded server.")
    database_pool_connections: int = Field(8, ge=1, description="Largest number of connections a process holds.")

    s3_endpoint: str = Field("", description="S3 endpoint URL; empty: the embedded SeaweedFS.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    s3_bucket: str = Field("aidos", description="The one bucket that the platform writes to.")
    s3_region: str = Field("us-east-1", description="Region that S3 requests are signed for.")

    import_buckets: str = Field(
        "",
        description="Other buckets of the endpoint, or folders of them (`bucket/folder`), that projects may import in place, comma-separated; "
        "empty: none. Whatever lies there, every project may read.",
    )

    ray_address: str = Field("", validation_alias="RAY_ADDRESS", description="GCS address of a Ray cluster; empty: a local head.")
    ray_dashboard_url: str = Field("", description="Ray dashboard URL (Jobs API); empty: the local head's.")

    gateway_host: str = Field("127.0.0.1", description="Address that HAProxy listens on.")
    gateway_port: int = Field(8000, description="Port of the gateway and of every endpoint.")
    url: str = Field(
        default_factory=lambda known: f"http://127.0.0.1:{known['gateway_port']}",
        description="Public address of the gateway; unset: the gateway's port on this machine.",
    )
    trusted_proxies: Annotated[str, AfterValidator(check_networks)] = Field(
        "", description="Load balancers before the gateway whose X-Forwarded-For is believed: addresses and networks, comma-separated."
    )
    git_networks: Annotated[str, AfterValidator(check_networks)] = Field(
        "",
        description="Inner addresses and networks, comma-separated, whose git servers jobs may take code from; those of the Internet they may.",
    )
    gateway_replicas: int = Field(1, ge=1, description="Replicas of the gateway deployment.")
    postgres_port: int = Field(8010, description="Port of the embedded PostgreSQL.")
    s3_port: int = Field(8011, description="Port of the embedded S3; its other ports follow it.")
    ray_port: int = Field(8030, description="Port of the local Ray GCS; the next 150 are the other Ray ports.")
    ray_dashboard_port: int = Field(8265, description="Port of the local Ray dashboard.")
    ray_host: str = Field("127.0.0.1", description="Address the local Ray listens on; other than loopback, other machines may join.")
    ray_cpus: int = Field(0, ge=0, description="Logical CPUs of the local head; 0: twice the machine's, at least 8.")

    start_timeout_s: float = Field(300.0, gt=0, description="Longest that `aidos up` waits for one program to answer.")
    free_disk_bytes: int = Field(
        2**30, ge=0, description="Free space without which `aidos up` refuses to start, and a job that holds much of the disk is ended."
    )

    viewer_cache_bytes: int = Field(
        10 * 2**30, ge=2**20, description="Disk that the dataset viewer may keep files on, under AIDOS_HOME/cache."
    )
    cors_origins: str = Field("", description="Origins whose pages browsers may let call the API, comma-separated; empty: none.")
    request_body_limit_bytes: int = Field(2_000_000, description="Largest request body the gateway reads.")
    upload_limit_bytes: int = Field(5 * 2**30, description="Largest file that may be uploaded through the gateway, in one request.")
    request_timeout_s: float = Field(65.0, description="Longest a request may take, long polls included.")
    presign_expiry_s: int = Field(3600, description="How long a presigned S3 URL is valid.")
    rate_limit_per_minute: int = Field(60_000, description="Default requests a minute for a key, user or project.")
    submit_limit_per_minute: int = Field(1_000, ge=1, description="Jobs a minute that one key may submit.")
    access_token_ttl_s: int = Field(600, description="Life of an access token.")
    refresh_token_ttl_s: int = Field(30 * 86400, description="Life of a refresh token family.")
    job_token_ttl_s: int = Field(3600, description="Life of a job token; renewed while the job runs.")
    autoscaler_nodes: str = Field(
        "",
        description="All nodes for jobs that an autoscaler of Ray may bring the cluster to, as `10x32:8:256,4x16`: count, CPUs, "
        "GPUs and GiB of memory; empty: the cluster has the nodes that it has.",
    )
    preemption_grace_s: float = Field(60.0, ge=0, description="How long a job that must give way may take to save a checkpoint.")
    otlp_endpoint: str = Field("", description="OTLP/HTTP collector for traces; empty: traces stay in logs.")
    trace_sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of new traces that are recorded; a caller's own choice stands.")
    openlineage_url: str = Field(
        "", description="Where events of OpenLineage are POSTed, e.g. `http://marquez:5000/api/v1/lineage`; empty: nowhere."
    )
    openlineage_key: SecretStr = Field(SecretStr(""), description="Bearer token for it; empty: none is sent.")
    log_level: str = Field("INFO", description="Lowest level that is logged.")

    def secret_path(self, name: str) -> Path:
        """Path of the file that holds secret ``name`` (mode 0600)."""
        return self.home / "secrets" / f"aidos_{name}"

    def secret(self, name: str) -> str:
        """Content of a secret file. Raises: FileNotFoundError when ``aidos up`` never made it."""
        return self.secret_path(name).read_text().strip()


def home_directory() -> Path:
    """``AIDOS_HOME`` or ``~/.aidos``, absolute."""
    return Path(os.environ.get("AIDOS_HOME") or "~/.aidos").expanduser().absolute()


@functools.cache
def get_settings() -> Settings:
    """The settings of this process."""
    return read_settings(home_directory())


def read_settings(home: Path) -> Settings:
    """The settings of the platform that lives in ``home``: the environment, then its secret files."""
    secrets = home / "secrets"
    return Settings(home=home, _secrets_dir=str(secrets) if secrets.is_dir() else None)


_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|PYTHONPATH|VIRTUAL_ENV|SSL_CERT_\w+"
    r"|(HTTP|HTTPS|NO|ALL)_PROXY|(CUDA|NVIDIA|NCCL|OMP|MKL)_\w+|RAY_(?!AUTH_|ADDRESS|REDIS_)\w+",
    re.IGNORECASE,
)


def inherited_environment() -> dict[str, str]:
    """What supervised programs get of this process's environment: no credential of the operator's shell is among it."""
    return {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}


def ambient_environment() -> Mapping[str, str]:
    """The whole environment of this process, for the doctor to look at."""
    return MappingProxyType(dict(os.environ))
