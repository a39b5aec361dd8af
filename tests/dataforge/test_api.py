"""The HTTP routes themselves: what they refuse, and what S3 refuses for them."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import httpx
import pytest

from aidos.client import Client

pytestmark = pytest.mark.postgres
ROOT = "/v1/dataforge/datasets"


@pytest.fixture
def http(url: str, admin_key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {admin_key}"}, trust_env=False)


@pytest.fixture
def digits(http: httpx.Client) -> str:
    assert http.post(ROOT, json={"name": "digits"}).status_code == 201
    return f"{ROOT}/digits"


def state(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def ask_url(http: httpx.Client, digits: str, data: bytes) -> dict[str, Any]:
    (missing,) = http.post(f"{digits}/uploads", json={"blobs": [state(data)]}).json()["missing"]
    return dict(missing)


def put(missing: dict[str, Any], data: bytes, **headers: str) -> int:
    return httpx.put(missing["url"], content=data, headers={**missing["headers"], **headers}, trust_env=False).status_code


class TestUploads:
    def test_a_url_takes_only_its_content(self, http: httpx.Client, digits: str) -> None:
        data = os.urandom(5000)
        missing = ask_url(http, digits, data)
        assert put(missing, os.urandom(5000)) == 400
        assert httpx.put(missing["url"], content=data, trust_env=False).status_code == 403
        assert put(missing, data, **{"x-amz-checksum-sha256": "A" * 43 + "="}) == 403
        done = http.post(f"{digits}/uploads/complete", json={"blobs": [state(data)]})
        assert done.json() == {"stored": 0, "missing": [state(data)["sha256"]]}
        assert put(missing, data) == 200
        assert http.post(f"{digits}/uploads/complete", json={"blobs": [state(data)]}).json() == {"stored": 1, "missing": []}
        assert http.post(f"{digits}/uploads", json={"blobs": [state(data)]}).json() == {"missing": []}

    def test_a_blob_with_another_size_is_not_accepted(self, http: httpx.Client, digits: str) -> None:
        data = os.urandom(100)
        assert put(ask_url(http, digits, data), data) == 200
        lie = {**state(data), "size_bytes": 99}
        assert http.post(f"{digits}/uploads/complete", json={"blobs": [lie]}).json()["missing"] == [lie["sha256"]]
        http.post(f"{digits}/uploads/complete", json={"blobs": [state(data)]})
        refused = http.post(f"{digits}/uploads", json={"blobs": [lie]})
        assert (refused.status_code, refused.json()["actual"], refused.json()["stated"]) == (422, 100, 99)
        refused = http.post(f"{digits}/commits", json={"add": [{"path": "a", **lie}]})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:aidos:dataforge:blobs-missing")

    def test_a_pack_that_lies_is_refused_and_nothing_of_it_is_known(self, http: httpx.Client, digits: str) -> None:
        data = b"onetwo"
        assert put(ask_url(http, digits, data), data) == 200
        right = {**state(b"one"), "offset_bytes": 0}
        wrong = {**state(b"TWO"), "offset_bytes": 3}
        for pack in ({**state(data), "entries": [right, wrong]}, {**state(b"never"), "entries": [right]}):
            refused = http.post(f"{digits}/uploads/complete", json={"packs": [pack]})
            assert (refused.status_code, refused.json()["type"]) == (422, "urn:aidos:dataforge:pack-invalid")
        assert len(http.post(f"{digits}/uploads", json={"blobs": [state(b"one")]}).json()["missing"]) == 1

    def test_large_contents_come_in_parts_and_only_when_complete(self, http: httpx.Client, digits: str) -> None:
        data = os.urandom(65 * 2**20)
        assert ask_url(http, digits, data)["url"] is None
        first = http.post(f"{digits}/uploads/parts", json=state(data)).json()
        assert (first["part_size_bytes"], [part["number"] for part in first["parts"]]) == (64 * 2**20, [1, 2])
        assert httpx.put(first["parts"][1]["url"], content=data[64 * 2**20 :], trust_env=False, timeout=60).status_code == 200
        assert http.post(f"{digits}/uploads/complete", json={"blobs": [state(data)]}, timeout=60).json()["stored"] == 0
        left = http.post(f"{digits}/uploads/parts", json=state(data)).json()["parts"]
        assert [part["number"] for part in left] == [1]
        assert httpx.put(left[0]["url"], content=data[: 64 * 2**20], trust_env=False, timeout=60).status_code == 200
        assert http.post(f"{digits}/uploads/complete", json={"blobs": [state(data)]}, timeout=60).json()["stored"] == 1
        assert http.post(f"{digits}/uploads/parts", json=state(data)).json()["parts"] == []


class TestRefusals:
    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a//b", "a\u0000b", "a\nb", "./a", "e\u0301", "x" * 1025, ""])
    def test_a_bad_path_is_named(self, http: httpx.Client, digits: str, path: str) -> None:
        file = {"path": path, **state(b"")}
        for url, body in (
            (f"{digits}/commits", {"add": [file]}),
            (f"{digits}/commits", {"remove": [path]}),
            (f"{digits}/trees", {"add": [file]}),
            (f"{digits}/downloads", {"paths": [path]}),
        ):
            refused = http.post(url, json=body)
            assert refused.status_code == 422
            if path and len(path) <= 1024:
                assert f"The path {path!r} cannot be stored" in refused.json()["errors"][0]["detail"]

    def test_a_stale_parent_names_both_commits(self, http: httpx.Client, digits: str) -> None:
        first = http.post(f"{digits}/commits", json={"add": [{"path": "a", **state(b"")}]}).json()
        refused = http.post(f"{digits}/commits", json={"add": [{"path": "b", **state(b"")}]})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:aidos:dataforge:ref-moved")
        assert (refused.json()["expected"], refused.json()["actual"]) == (None, first["id"])

    def test_what_is_not_there(self, http: httpx.Client, digits: str) -> None:
        for method, url in (
            ("GET", f"{ROOT}/absent"),
            ("GET", f"{digits}/commits"),
            ("GET", f"{digits}/commits/main"),
            ("GET", f"{digits}/files?ref=v1"),
            ("GET", f"{digits}/diff?base=a&head=b"),
            ("DELETE", f"{digits}/refs/main"),
            ("DELETE", f"{ROOT}/absent"),
        ):
            assert http.request(method, url).status_code == 404, url
        tree = http.post(f"{digits}/trees", json={"base": "0" * 64})
        assert (tree.status_code, tree.json()["type"]) == (404, "urn:aidos:dataforge:tree-not-found")

    def test_a_forged_cursor_is_refused(self, http: httpx.Client, digits: str) -> None:
        http.post(f"{digits}/commits", json={"add": [{"path": "a", **state(b"")}]})
        for url in (ROOT, f"{digits}/commits", f"{digits}/refs", f"{digits}/files", f"{digits}/diff"):
            for cursor in ("x", "W10", "WyJhIiwiXHUwMDAwIl0", "WyJcdTAwMDAiXQ", "WyJhIiwyXQ"):
                answer = http.get(url, params={"cursor": cursor, "base": "main", "head": "main"})
                assert answer.status_code == 400, (url, cursor, answer.text)


class TestPages:
    def test_follow_one_another_and_stay_at_their_commit(self, client: Client, http: httpx.Client, digits: str) -> None:
        names = [f"{'x' * 900}/{i:03}" for i in range(25)]
        client.datasets.commit("digits", add=[{"path": name, **state(b"")} for name in names])
        page = http.get(f"{digits}/files", params={"limit": 10}).json()
        parent = client.datasets.show("digits", "main").id
        client.datasets.commit("digits", parent=parent, remove=names[:20])
        found = [file["path"] for file in page["items"]]
        while page["next_cursor"]:
            answer = http.get(f"{digits}/files", params={"limit": 10, "cursor": page["next_cursor"]})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [file["path"] for file in page["items"]]
        assert found == names
        removed = [change.path for page in client.datasets.diff("digits", base=str(parent), head="main").pages() for change in page.items]
        assert removed == names[:20]
        page = http.get(f"{digits}/commits", params={"limit": 1}).json()
        assert http.get(f"{digits}/commits", params={"limit": 1, "cursor": page["next_cursor"]}).json()["items"][0]["id"] == str(parent)


class TestCommits:
    def test_metadata_comes_back_as_it_was_given(self, http: httpx.Client, digits: str) -> None:
        metadata = {"synthetic": True, "generator": {"kind": "copula", "seed": 2**60}, "note": "\\u0000 is text", "é": [None, 1.5]}
        made = http.post(f"{digits}/commits", json={"metadata": metadata, "add": [{"path": "a", **state(b"")}]})
        assert made.status_code == 201
        assert http.get(f"{digits}/commits/main").json()["metadata"] == metadata

    @pytest.mark.parametrize("text", ['{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": NaN}', f'{{"a": "{"x" * 16_400}"}}', "[1]"])
    def test_metadata_that_cannot_be_kept_is_refused(self, http: httpx.Client, digits: str, text: str) -> None:
        answer = http.post(f"{digits}/commits", content=f'{{"metadata": {text}}}'.encode(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "metadata" in answer.text

    def test_the_log_is_paged_and_stays_at_its_first_commit(self, http: httpx.Client, digits: str) -> None:
        ids: list[str] = []
        for number in range(5):
            body = {"parent": ids[-1] if ids else None, "add": [{"path": f"{number}", **state(b"")}]}
            ids.append(http.post(f"{digits}/commits", json=body).json()["id"])
        page = http.get(f"{digits}/commits", params={"limit": 2}).json()
        seen = [commit["id"] for commit in page["items"]]
        http.post(f"{digits}/commits", json={"parent": ids[-1], "remove": ["0"]})
        while page["next_cursor"]:
            page = http.get(f"{digits}/commits", params={"limit": 2, "cursor": page["next_cursor"]}).json()
            seen += [commit["id"] for commit in page["items"]]
        assert seen == ids[::-1]
