"""``aidos.run()``: what a training writes down while it works.

with aidos.run(experiment="digits", params={"lr": 0.1}) as run:
    for step in range(100):
        run.log_metrics({"loss": loss}, step=step)
    run.log_model("model.onnx", name="digits")

Metrics are buffered and sent in batches by a thread; a restart of the platform only delays them. Leaving the block waits until
all is stored, and says if something could not be. While the platform cannot be reached, and with ``offline=True``, a run is kept on
this machine, and ``aidos run sync`` brings it over, once. In a job the job's own run is taken, which the platform ends with the job.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from aidos.client import Client
from aidos.config import job as read_job
from aidos.config import system_metrics_s as read_system_metrics_s
from aidos.errors import InvalidPayload, InvalidRequest, Unavailable
from aidos.http.operation import checked
from aidos.schemas.modelhub import ArtifactRead, Flavour, PointLog, RunCreate, RunState, VersionRead, VersionState
from aidos.tracking import environment
from aidos.tracking.point_buffer import PointBuffer
from aidos.tracking.recorder import Recorder, begin, new_id, tell
from aidos.tracking.system_metrics import Sampler
from aidos.transfers.local_files import sha256_of

_FLAVOURS = {".onnx": Flavour.ONNX, ".safetensors": Flavour.SAFETENSORS}
_ENDS = ("FINISHED", "FAILED", "KILLED")
_BATCH_FILES = 200
_INSPECTION_WAITS = 10
_OPEN: set[ActiveRun] = set()


class ModelRejected(InvalidPayload):
    title = "Model was rejected"
    detail = "{reference} was rejected: {reason} Register it again when that is put right."


def run(
    experiment: str = "default",
    name: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    inputs: Iterable[str] = (),
    resume: str | UUID | None = None,
    offline: bool | None = None,
    diff: bool = True,
    system_metrics_s: float | None = None,
    client: Client | None = None,
) -> ActiveRun:
    """Begin a run, or go on with one: ``resume``, or inside a job the job's own (``experiment`` and ``name`` are then the job's).

    ``inputs``: datasets that the run reads, as ``DATASET@REF``. ``offline``: True keeps the run on this machine until it is synced;
    None does so from the moment on that the platform cannot be reached; False raises then. ``diff``: whether what differs from the git
    commit is kept. ``system_metrics_s``: how often the machine is sampled (``AIDOS_SYSTEM_METRICS_S``, else every 10 s); 0 is never.
    Raises: DatasetNotFound, RunNotFound, ParamChanged; Unavailable where a run is resumed of which nothing is known here.
    """
    attached = str(resume or read_job().run_id or "")
    known = environment.describe() | {key: str(value) for key, value in (tags or {}).items()}
    asked: dict[str, Any] = {
        "id": attached or new_id(),
        "experiment": experiment,
        "name": name,
        "params": _texts(params or {}),
        "tags": known,
        "inputs": list(inputs),
    }
    opened = client or Client()
    recorder = begin(opened, checked(RunCreate, asked), attached=bool(attached), ends=not attached or resume is not None, offline=offline)
    active = ActiveRun(recorder, closes=client is None)
    active.watch(read_system_metrics_s() if system_metrics_s is None else system_metrics_s, diff=diff)
    return active


class ActiveRun:
    """A run that is being written. Use it in a ``with`` block, or call ``end`` (the end of the program does it too)."""

    def __init__(self, recorder: Recorder, *, closes: bool) -> None:
        self.id, self.name, self.experiment = recorder.run_id, recorder.name, recorder.experiment
        self._recorder, self._client, self._closes, self._ended = recorder, recorder.client, closes, False
        self._points = PointBuffer(recorder.log_metrics)
        self._sampler: Sampler | None = None
        self._describing: threading.Thread | None = None
        _OPEN.add(self)

    def watch(self, every_s: float, *, diff: bool) -> None:
        """Keep what the run is made with, aside; and how the machine does, where ``every_s`` is not 0."""
        self._describing = threading.Thread(target=environment.keep, args=(self._recorder, diff), name="aidos-environment", daemon=True)
        self._describing.start()
        if every_s > 0:
            # Not through the buffer: it tells once what was refused, and that is for who logs.
            self._sampler = Sampler(lambda sample: self._recorder.log_metrics(self._points_of(sample)), every_s)

    def log_metric(self, key: str, value: float, step: int | None = None, *, at: datetime | None = None) -> None:
        """One value; see ``log_metrics``."""
        self.log_metrics({key: value}, step, at=at)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, *, at: datetime | None = None) -> None:
        """Values of one moment. Without ``step`` each metric counts on by itself; NaN and infinity are values like others.

        Returns at once; the values are stored by the time that ``flush`` or ``end`` returns.
        Raises: InvalidPayload for what no metric can be, and what an earlier batch was refused for.
        """
        self._points.add(self._points_of(metrics, step, at))

    def _points_of(self, metrics: Mapping[str, float], step: int | None = None, at: datetime | None = None) -> list[PointLog]:
        moment, next_step = at or datetime.now(UTC), self._recorder.next_step
        return [_point(key, value, next_step(key) if step is None else step, moment) for key, value in metrics.items()]

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Set parameters, each once. Raises: ParamChanged."""
        self._recorder.log_params(_texts(params))

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set tags; None removes one."""
        self._recorder.set_tags(tags)

    def log_artifact(self, path: str | Path, name: str | None = None) -> list[ArtifactRead]:
        """Store a file, or all files of a directory, under ``name`` (its own where none is given). The same bytes go once."""
        source = Path(path)
        folder = (source.name or source.resolve().name) if name is None else name.strip("/")
        if source.is_dir():
            files = {f"{folder}/{file.relative_to(source).as_posix()}": file for file in sorted(source.rglob("*")) if file.is_file()}
        else:
            files = {folder: source}
        return [artifact for batch in _batches(files) for artifact in self._recorder.store(batch)]

    def log_model(
        self,
        path: str | Path,
        name: str,
        *,
        flavour: str | None = None,
        alias: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        beside: Mapping[str, str | Path] | None = None,
    ) -> VersionRead:
        """Register a model file, or a directory with one, as the next version of model ``name``, and wait until it was inspected.

        ``beside``: further files by their path in the version, such as ``README.md`` (its card), ``requirements.txt``, ``input_example.json``.
        ``alias`` then points at it (moving one needs the permission ``modelhub:manage``).
        Raises: ModelRejected; Unavailable where it was not inspected within five minutes.
        """
        self._recorder.require_platform(
            "A model is registered by the platform, and this run is kept here. Log its files with log_artifact and register them after `aidos run sync`."
        )
        source = Path(path)
        files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
        kind = Flavour(flavour) if flavour else _flavour_of(files)
        # The digest in the path lets one run register several states of one model.
        more = {to: Path(file) for to, file in (beside or {}).items()}
        digest = hashlib.sha256("".join(sha256_of(file) for file in (*files, *more.values())).encode()).hexdigest()[:12]
        stored = self.log_artifact(source, f"models/{name}/{digest}" + ("" if source.is_dir() else f"/{source.name}"))
        for to, file in more.items():
            stored += self.log_artifact(file, f"models/{name}/{digest}/{to}")
        made = self._client.models.register(
            name, run_id=self.id, flavour=kind, artifacts=[artifact.path for artifact in stored], description=description
        )
        version = self._inspected(made)
        if tags:
            version = self._client.models.update_version(name, str(version.version), tags=tags)
        return self._client.models.set_alias(name, alias, version=str(version.version)) if alias else version

    def _inspected(self, made: VersionRead) -> VersionRead:
        for _ in range(_INSPECTION_WAITS):
            if made.state is not VersionState.PENDING:
                break
            made = self._client.models.version(made.model, str(made.version), wait="30s")
        if made.state is VersionState.PENDING:
            raise Unavailable(reason=f"{made.model}@{made.version} is registered and waits to be inspected.", retry_after_s=60)
        if made.state is VersionState.REJECTED:
            raise ModelRejected(reference=f"{made.model}@{made.version}", reason=made.reason)
        return made

    def flush(self) -> None:
        """Wait until everything logged so far is stored. Raises: what a batch was refused for, or Unavailable."""
        self._points.flush()

    def end(self, state: str = "FINISHED") -> None:
        """Store what is left and end the run as FINISHED, FAILED or KILLED; in a job the platform does the latter.

        Raises: InvalidRequest for another state; what ``flush`` raises.
        """
        if state not in _ENDS:
            raise InvalidRequest(reason=f"A run ends as {', '.join(_ENDS)}, not as {state!r}.")
        if self._ended:
            return
        self._ended = True
        _OPEN.discard(self)
        if self._sampler:
            self._sampler.stop()
        if self._describing:
            self._describing.join()
        try:
            self._points.close()
        finally:
            try:
                self._recorder.end(RunState(state))
            finally:
                if self._closes:
                    self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.end()
            return
        try:
            self.end("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")
        except Exception as second:  # the block's own error is the one to see
            tell(f"run {self.name} could not be ended: {second}")

    def __repr__(self) -> str:
        return f"<run {self.name} of {self.experiment}: {self.id}>"


@atexit.register
def _end_all() -> None:
    for active in list(_OPEN):
        try:
            active.end()
        except Exception as error:
            tell(f"run {active.name} could not be ended: {error}")


def _point(key: str, value: Any, step: int, at: datetime) -> PointLog:
    try:
        # float() takes what torch and NumPy call a number, without importing either.
        return PointLog(key=key, value=float(value), step=step, at=at)
    except (ValueError, TypeError) as error:
        raise InvalidPayload(reason=f"'{key}' = {value!r} at step {step!r} is no metric: {' '.join(str(error).split())[:300]}") from None


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in params.items()}


def _flavour_of(files: list[Path]) -> Flavour:
    for file in files:
        if flavour := _FLAVOURS.get(file.suffix):
            return flavour
    raise InvalidRequest(
        reason=f"No file of {', '.join(file.name for file in files[:5]) or 'an empty directory'} is .onnx or .safetensors. Export to one of them, or say the flavour."
    )


def _batches(files: Mapping[str, Path]) -> Iterable[dict[str, Path]]:
    rest = iter(files.items())
    while batch := dict(itertools.islice(rest, _BATCH_FILES)):
        yield batch
