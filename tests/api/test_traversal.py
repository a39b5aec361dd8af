"""No path leaves its place: 5,000 strings through every rule for paths, 200 archives, and a sample through the real API (G16)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from actors.modelhub import policy as modelhub
from aidos.errors import AidosError, InvalidRequest
from aidos.http.wire import fill
from aidos.schemas import modelhub as modelhub_schemas
from aidos.schemas import trainos
from aidos.schemas.common import Name
from aidos.schemas.dataforge import versions as dataforge
from aidos.schemas.modelhub import FileDownload
from aidos.transfers import checkpoints
from aidos.transfers.artifacts import write_files
from aidos.transfers.downloading import Downloader
from cluster.objects import blob_key, prefix_key
from data_pipelines.dataforge.errors import PackInvalid
from data_pipelines.dataforge.models import Pack
from data_pipelines.dataforge.policy import verify_pack
from tests.api.asgi_call import ask
from tests.api.routes import operations
from tests.support import traversal
from tune.trainos.code_package import BadPackage, check_package
from tune.trainos.service import code_key

if TYPE_CHECKING:
    from tests.api.world import World

EVIL = b"evil"
EVIL_SHA256 = hashlib.sha256(EVIL).hexdigest()
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
PROJECT, OWNER = UUID(int=1), UUID(int=2)
STRINGS = traversal.strings()
FIELDS = {"dataforge": dataforge.FilePath, "modelhub": modelhub_schemas.ArtifactPath, "trainos": trainos.FilePath, "name": Name}


def accepted(field: Any) -> list[str]:
    """The strings that a field of a request may have."""
    adapter, found = TypeAdapter(field), []
    for text in STRINGS:
        try:
            found.append(adapter.validate_python(text))
        except ValidationError:
            continue
    return found


def is_inside(root: str, path: str) -> bool:
    return os.path.realpath(os.path.join(root, path)).startswith(os.path.realpath(root) + os.sep)


class Place:
    """A folder to write into, with a link that leads out of it, and a canary outside."""

    def __init__(self, around: Path) -> None:
        self.around, self.root = around, around / "outside" / "root"
        self.root.mkdir(parents=True)
        self.canary = self.root.parent / "canary"
        self.canary.write_text(f"canary {uuid4().hex}")
        self.link()
        self.before = self.outside()

    def link(self) -> None:
        """The link is there, also when a file has taken its name."""
        path = self.root / traversal.LINK_OUT
        if not path.is_symlink():
            path.unlink(missing_ok=True)
            path.symlink_to(self.root.parent)

    def outside(self) -> dict[str, bytes | None]:
        """Everything around the root."""
        found = {}
        for current, folders, names in os.walk(self.around):
            folders[:] = [name for name in folders if Path(current, name) != self.root]
            found |= {os.path.join(current, name): Path(current, name).read_bytes() for name in names}
            found |= {os.path.join(current, name): None for name in folders}
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    assert made.outside() == made.before


class TestCorpus:
    def test_it_is_the_promised_number_and_can_tell(self, tmp_path: Path) -> None:
        assert len(set(STRINGS)) == traversal.STRINGS and len(traversal.archives()) == traversal.ARCHIVES
        clean = [text for text in STRINGS if "\x00" not in text and len(text) < 900]
        assert sum(not is_inside(str(tmp_path), text) for text in clean) > 500
        assert sum(archive.refused for archive in traversal.archives()) > 100


class TestRules:
    @pytest.mark.parametrize("field", FIELDS)
    def test_a_path_is_refused_or_stays(self, field: str, tmp_path: Path) -> None:
        kept = accepted(FIELDS[field])
        assert kept
        for path in kept:
            assert posixpath.normpath(path) == path and "\x00" not in path, repr(path)
            assert is_inside(str(tmp_path), path), repr(path)

    def test_a_version_keeps_its_files_inside(self, tmp_path: Path) -> None:
        kept = accepted(modelhub_schemas.ArtifactPath)
        for group in zip(kept, kept[1:], kept[2:], strict=False):
            for size in (1, 2, 3):
                for path in modelhub.version_paths(group[:size]).values():
                    assert posixpath.normpath(path) == path and is_inside(str(tmp_path), path), (group, path)

    @pytest.mark.parametrize("make", [lambda text: prefix_key(PROJECT, "code", OWNER, text), lambda text: code_key(PROJECT, text)])
    def test_a_key_is_refused_or_stays_under_its_prefix(self, make: Callable[[str], str]) -> None:
        prefix, refused = make("X").removesuffix(".zip").removesuffix("X"), 0
        for text in STRINGS:
            try:
                key = make(text)
            except ValueError:
                refused += 1
                continue
            assert (posixpath.normpath(key) + "/").startswith(prefix), repr(key)
        assert refused > 500

    def test_a_blob_has_a_digest_and_nothing_else(self) -> None:
        for text in STRINGS:
            with pytest.raises(ValueError, match="SHA-256"):
                blob_key(PROJECT, text)

    @pytest.mark.parametrize("path", ["/v1/x/{name}/y", "/v1/x/{name:path}/y"])
    def test_the_client_asks_for_no_other_path(self, path: str) -> None:
        nested, refused = ":path" in path, 0
        for text in STRINGS:
            try:
                filled = fill(path, {"name": text})
            except InvalidRequest:
                refused += 1
                continue
            assert unquote(filled, errors="strict") == f"/v1/x/{text}/y" and not {"?", "#"} & set(filled), repr(filled)
            assert posixpath.normpath(filled) == filled and (nested or filled.count("/") == 4), repr(filled)
            assert httpx.URL(f"http://gateway.test{filled}").raw_path.decode() == filled
        assert refused > 500

    def test_a_pack_shows_only_its_own_bytes(self) -> None:
        data = bytes(range(100))
        for offset, size in ((100, 1), (99, 2), (0, 101), (2**31, 1), (50, 10)):
            pack = Pack(
                hashlib.sha256(data).hexdigest(), len(data), (SimpleNamespace(sha256=EVIL_SHA256, size_bytes=size, offset_bytes=offset),)
            )
            with pytest.raises(PackInvalid):
                verify_pack(pack, data)


class Store:
    """What a platform that has been taken over would answer: any path, with bytes that fit."""

    def __init__(self, path: str) -> None:
        self.path, self.checkpoints = path, self

    def get_presigned(self, url: str) -> Any:
        return SimpleNamespace(content=EVIL)

    def get(self, job_id: str, step: str) -> Any:
        return SimpleNamespace(files=[SimpleNamespace(path=self.path, sha256=EVIL_SHA256, url="http://s3.test")])


def write_model(text: str, root: Path) -> None:
    write_files(Store(text), [FileDownload.model_construct(path=text, sha256=EVIL_SHA256, size_bytes=4, url="")], root)  # type: ignore[arg-type]  # all it asks for


def write_checkpoint(text: str, root: Path) -> None:
    checkpoints._fetch(Store(text), "job", 1, root)  # type: ignore[arg-type]  # all it asks for


def write_pulled(text: str, root: Path) -> None:
    Downloader(Store(text), "d", "main", root, lambda _: None).target(text).write_bytes(EVIL)  # type: ignore[arg-type]  # asks it for nothing


class TestClient:
    @pytest.mark.parametrize("write", [write_model, write_checkpoint, write_pulled])
    def test_it_writes_nowhere_else(self, place: Place, write: Callable[[str, Path], None]) -> None:
        refused = written = 0
        for text in STRINGS:
            place.link()
            try:
                write(text, place.root)
                written += 1
            except AidosError:
                refused += 1
            except (OSError, ValueError):  # a name that no file can have
                continue
        assert refused > 500 and written > 100

    def test_a_part_that_is_a_link_is_not_written_through(self, place: Place) -> None:
        (place.root / ".model.part").symlink_to(place.canary)
        write_model("model", place.root)
        assert (place.root / "model").read_bytes() == EVIL


class TestArchives:
    def test_none_escapes(self, place: Place) -> None:
        """What the platform lets through is unpacked by the code of Ray that would do it on a node."""
        from ray._private.runtime_env.packaging import unzip_package

        (place.root / traversal.LINK_OUT).unlink()
        unpacked = failed = 0
        for number, archive in enumerate(traversal.archives()):
            package = place.root / f"{number}.zip"
            package.write_bytes(archive.content)
            try:
                check_package(package, hashlib.sha256(archive.content).hexdigest())
            except BadPackage:
                continue
            assert not archive.refused, archive.what
            unpacked, target = unpacked + 1, place.root / f"unpacked-{number}"
            try:
                unzip_package(str(package), str(target), remove_top_level_directory=False, unlink_zip=False)
            except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError):
                failed += 1  # the job fails: what counts is what is left
            found = [Path(current, name) for current, folders, names in os.walk(target) for name in (*folders, *names)]
            assert all((path.is_file() or path.is_dir()) and not path.is_symlink() for path in found), archive.what
            assert sum(path.stat().st_size for path in found if path.is_file()) < 2_000_000, archive.what
            assert len(list(place.root.iterdir())) == len({*place.root.glob("*.zip"), *place.root.glob("unpacked-*")}), archive.what
        assert unpacked > 40 and failed > 5


class Attack:
    """The sample against one gateway."""

    def __init__(self, world: World, owner: httpx.AsyncClient, canary: str) -> None:
        self.world, self.owner, self.canary = world, owner, canary
        self.headers = {"Authorization": owner.headers["Authorization"], "Content-Type": "application/json"}
        self.limit = asyncio.Semaphore(8)

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        async with self.limit:
            answer = await ask(self.world.app, "POST", path, self.headers, json.dumps(body).encode())
        self.check(path, answer.status, answer.headers, answer.body)
        return answer.status, answer.body

    async def get(self, target: str) -> int:
        async with self.limit:
            answer = await ask(self.world.app, "GET", target, self.headers)
        self.check(target, answer.status, answer.headers, answer.body)
        return answer.status

    def check(self, target: str, status: int, headers: dict[str, str], body: bytes) -> None:
        assert 200 <= status < 500, (target[:300], status, body[:300])
        assert self.canary.encode() not in body and b"root:x:0:0" not in body, target[:300]
        assert urlsplit(headers.get("location", "")).netloc in {"", "gateway.test"}, (target, headers)


@pytest.mark.postgres
@pytest.mark.asyncio(loop_scope="session")
class TestGateway:
    @pytest.fixture
    def attack(self, world: World, owner: httpx.AsyncClient, place: Place) -> Attack:
        return Attack(world, owner, place.canary.read_text())

    async def test_bodies(self, attack: Attack, owner: httpx.AsyncClient, place: Place) -> None:
        mark = uuid4().hex[:12]
        assert (await owner.post("/v1/dataforge/datasets", json={"name": f"d-{mark}"})).status_code == 201
        assert (await owner.post("/v1/modelhub/experiments", json={"name": f"e-{mark}"})).status_code == 201
        run = (await owner.post("/v1/modelhub/runs", json={"experiment": f"e-{mark}"})).json()["id"]
        job = (await owner.post("/v1/trainos/jobs", json={"name": f"j-{mark}", "command": ["true"], "experiment": f"e-{mark}"})).json()[
            "id"
        ]

        async def one(text: str) -> list[int]:
            file = {"path": text, "sha256": EMPTY_SHA256, "size_bytes": 0}
            dataset, branch = f"/v1/dataforge/datasets/d-{mark}", f"b-{uuid4().hex}"
            answers = [
                await attack.post(f"{dataset}/commits", {"branch": branch, "add": [file]}),
                await attack.post(f"{dataset}/trees", {"add": [file]}),
                await attack.post(f"{dataset}/downloads", {"ref": branch, "paths": [text]}),
                await attack.post(f"/v1/trainos/jobs/{job}/checkpoints/uploads", {"files": [file]}),
                await attack.post("/v1/trainos/code", {"sha256": text, "size_bytes": 1}),
                await attack.post(f"/v1/modelhub/runs/{run}/artifacts/uploads", {"files": [file]}),
            ]
            status, body = answers[-1]
            if status < 300:
                url = urlsplit(httpx.Response(200, content=body).json()["files"][0]["upload_url"])
                prefix = f"/api/{attack.world.ours.project_id}/artifacts/{run}/"
                assert url.path.startswith(prefix) and UUID(url.path.removeprefix(prefix)), url
            return [status for status, _ in answers]

        found = await asyncio.gather(*(one(text) for text in [str(place.canary), "harmless.txt", *traversal.sample(200)]))
        refused = sum(status >= 400 for statuses in found for status in statuses)
        assert all(status < 300 for status in (*found[1][:3], found[1][-1])) and refused > 400

    async def test_addresses(self, attack: Attack, place: Place) -> None:
        routes = [route for route in operations(attack.world.app) if route.method == "GET" and "{" in route.path]
        assert len(routes) > 20
        targets = []
        for number, text in enumerate([str(place.canary), *traversal.sample(200)]):
            quoted = quote(text, safe="", errors="surrogatepass")
            raw = quote(text, safe="/%?#.;:\\", errors="surrogatepass")
            for form in (quoted, quote(quoted, safe=""), raw):
                route = routes[(number * 3 + len(targets)) % len(routes)]
                targets.append(route.path.partition("{")[0] + form + route.path.partition("}")[2].replace("{", "").replace("}", ""))
            targets.append("/" + raw)
        statuses = await asyncio.gather(*(attack.get(target) for target in targets))
        assert sum(status >= 400 for status in statuses) > 500

    async def test_an_answer_that_shows_the_canary_would_be_seen(self, attack: Attack) -> None:
        with pytest.raises(AssertionError):
            attack.check("/", 200, {}, b"x" + attack.canary.encode())
