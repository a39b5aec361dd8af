"""Secrets that jobs name: who may, who gets the values, and what becomes of a job whose secret is gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aidos.client import Client
from aidos.errors import AidosError, Forbidden, InvalidPayload, NotFound
from cluster.db import Database
from cluster.settings import Settings
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import AIDOS, command, steps
from tune.trainos.errors import JobNotFound
from tune.trainos.models import RayState
from tune.trainos.reconciler import JobReconciler

pytestmark = pytest.mark.postgres
VALUE = "hunter2-correct-horse-battery"
SECRETS = {"DB": "prod-db", "HF_TOKEN": "HF_TOKEN"}
AsJob = Callable[[Any], Client]


@pytest.fixture
def client(client: Client) -> Client:
    """Of a project with two secrets."""
    for name in SECRETS.values():
        client.secrets.set(name, value=f"{VALUE} of {name}")
    return client


@pytest.fixture
def job(client: Client) -> str:
    return str(client.jobs.create("load", command=["true"], secrets=SECRETS).id)


def key_with(client: Client, *scopes: str) -> Client:
    made = client.keys.create("-".join(scope.replace(":", ".") for scope in scopes), role="developer", scopes=list(scopes))
    return Client(client.config.url, made.key)


class TestSubmit:
    def test_names_the_one_that_is_unknown_and_where_it_stands(self, client: Client) -> None:
        with pytest.raises(InvalidPayload, match="no secret 'prod-bd', which the job wants as DB") as refused:
            client.jobs.create("load", command=["true"], secrets={"HF_TOKEN": "HF_TOKEN", "DB": "prod-bd"})
        assert refused.value.fields["pointer"] == "#/secrets/DB"

    @pytest.mark.parametrize("variable", ["AIDOS_TOKEN_FILE", "RAY_ADDRESS", "A-B", "1A", ""])
    def test_takes_no_variable_of_the_platform_and_none_that_is_no_name(self, client: Client, variable: str) -> None:
        with pytest.raises(InvalidPayload):
            client.jobs.create("load", command=["true"], secrets={variable: "HF_TOKEN"})

    def test_needs_the_right_to_use_secrets(self, client: Client, job: str, as_job: AsJob) -> None:
        """Which code of a job does not have: not for other secrets of the project, and not by queueing a job like another."""
        with key_with(client, "trainos:write") as narrow, as_job(job) as inside:
            for caller in (narrow, inside):
                assert caller.jobs.create("plain", command=["true"]).spec.secrets == {}
                with pytest.raises(Forbidden, match="securityvault:use"):
                    caller.jobs.create("load", command=["true"], secrets=SECRETS)
        with key_with(client, "trainos:write", "securityvault:use") as enough:
            assert enough.jobs.create("load", command=["true"], secrets=SECRETS).spec.secrets == SECRETS

    def test_says_names_and_never_a_value_in_all_that_is_told_of_the_job(
        self, client: Client, job: str, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        steps(database, reconciler, 2)
        (environment,) = cluster.environments.values()
        assert environment["AIDOS_SECRETS"] == "DB,HF_TOKEN"
        told = [client.jobs.get(job), *client.audit.list(limit=None), *client.events.list(limit=None), environment, cluster.notes]
        assert "prod-db" in str(told) and VALUE not in str(told)


class TestValues:
    def test_are_the_jobs_own_and_on_the_record(self, client: Client, job: str, as_job: AsJob) -> None:
        with as_job(job) as inside:
            assert inside.jobs.secrets(job).environment == {variable: f"{VALUE} of {name}" for variable, name in SECRETS.items()}
        record = next(iter(client.audit.list()))
        assert (record.action, record.data["secrets"]) == ("read_job_secrets", {"prod-db": 1, "HF_TOKEN": 1})
        assert record.actor == f"job:{job}" and VALUE not in str(record)
        assert all(secret.last_used_at for secret in client.secrets.list())

    def test_are_nobody_elses(self, client: Client, job: str, as_job: AsJob) -> None:
        other = client.jobs.create("other", command=["true"])
        with as_job(other.id) as stranger:
            assert stranger.jobs.secrets(str(other.id)).environment == {}
            for caller in (stranger, client):
                with pytest.raises(JobNotFound):
                    caller.jobs.secrets(job)

    def test_of_a_rotated_secret_are_the_newest(self, client: Client, job: str, as_job: AsJob) -> None:
        assert client.secrets.set("prod-db", value="another").version == 2
        with as_job(job) as inside:
            assert inside.jobs.secrets(job).environment["DB"] == "another"

    def test_are_had_no_more_when_the_job_has_ended(
        self, client: Client, job: str, as_job: AsJob, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        steps(database, reconciler, 2)
        with as_job(job) as inside:
            assert inside.jobs.secrets(job).environment
            cluster.become(client.jobs.get(job).submission_id or "", RayState.SUCCEEDED)
            steps(database, reconciler, 1)
            assert client.jobs.get(job).state == "SUCCEEDED"
            with pytest.raises(AidosError) as refused:
                inside.jobs.secrets(job)
            assert refused.value.status in {401, 409}

    def test_under_another_master_key_are_refused_in_words(self, client: Client, job: str, as_job: AsJob, settings: Settings) -> None:
        path = settings.secret_path("secret_keys")
        kept = path.read_text()
        try:
            path.write_text("00" * 32)
            with as_job(job) as inside, pytest.raises(AidosError, match="lacks the master key") as refused:
                inside.jobs.secrets(job)
            assert refused.value.status == 409
        finally:
            path.write_text(kept)


class TestGone:
    def test_a_secret_that_is_deleted_before_the_start_fails_the_job_at_once_and_for_good(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        job = str(client.jobs.create("load", command=["true"], secrets=SECRETS, max_restarts_on_errors=5, max_retries=5).id)
        client.secrets.delete("prod-db")
        steps(database, reconciler, 2)
        found = client.jobs.get(job)
        assert (found.state, found.attempt, found.reason) == (
            "FAILED", 1, "secret 'prod-db', which the job has as DB, was deleted after the job was submitted",
        )  # fmt: skip
        assert not cluster.jobs

    def test_an_attempt_that_is_refused_one_is_not_made_again(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        job = str(client.jobs.create("load", command=["true"], secrets=SECRETS, max_restarts_on_errors=5).id)
        steps(database, reconciler, 2)
        error = {"error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "exit_code": 119, "message": "aidos: The project has no secret 'HF_TOKEN'."}
        cluster.become(client.jobs.get(job).submission_id or "", RayState.FAILED, **error)
        steps(database, reconciler, 1)
        found = client.jobs.get(job)
        assert (found.state, found.reason) == ("FAILED", "exit code 119; last line: aidos: The project has no secret 'HF_TOKEN'.")

    def test_one_that_the_platform_did_not_answer_is_lost_by_the_platform(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        job = str(client.jobs.create("load", command=["true"], secrets=SECRETS).id)
        steps(database, reconciler, 2)
        error = {"error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "exit_code": 118, "message": "aidos: The platform answered 503."}
        cluster.become(client.jobs.get(job).submission_id or "", RayState.FAILED, **error)
        steps(database, reconciler, 2)
        assert client.jobs.get(job).attempt == 2


class TestCommand:
    def test_a_value_comes_from_standard_input_and_a_job_names_it(self, client: Client, tmp_path: Path) -> None:
        words = [str(AIDOS), "secret", "set", "API"]
        done = subprocess.run(words, input=f"{VALUE}\n", capture_output=True, text=True, env=dict(os.environ), timeout=60, check=False)
        assert done.returncode == 0 and VALUE not in done.stdout + done.stderr, done.stderr
        (tmp_path / "code").mkdir()
        submit = ("job", "submit", "--name", "load", "--secret", "API", "--secret", "DB=prod-db", "--json", "--", "true")
        assert command(*submit, cwd=tmp_path / "code").returncode == 0
        assert client.jobs.get("load").spec.secrets == {"API": "API", "DB": "prod-db"}

    def test_a_value_is_no_argument(self, client: Client, tmp_path: Path) -> None:
        assert command("secret", "set", "API", "--value", VALUE, cwd=tmp_path).returncode == 2
        with pytest.raises(NotFound):
            client.secrets.delete("API")
