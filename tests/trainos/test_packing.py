"""What goes into a code package, at the client and at the platform."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from aidos.transfers import packing
from aidos.transfers.packing import CodeNotPackable, CodeTooLarge, pack
from tests.trainos.conftest import zip_of
from tune.trainos import code_package
from tune.trainos.code_package import BadPackage, check_package


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


class TestPack:
    def test_the_same_files_are_the_same_bytes(self, tmp_path: Path) -> None:
        write(tmp_path, train_dot_py="print(1)", lib__a_dot_py="x = 1")
        first = pack(tmp_path)
        os.utime(tmp_path / "train.py", (1, 1))
        assert pack(tmp_path) == first and first.sha256 == hashlib.sha256(first.content).hexdigest()
        assert names(first.content) == ["lib/a.py", "train.py"]

    def test_ignore_files_are_honoured_where_they_lie(self, tmp_path: Path) -> None:
        write(tmp_path, train_dot_py="", data_dot_bin="", keep__data_dot_bin="", keep__x_dot_log="", sub__x_dot_log="", x_dot_log="")
        (tmp_path / ".gitignore").write_text("/data.bin\n*.log\n!keep/x.log\n")
        (tmp_path / "sub" / ".aidosignore").write_text("x.*\n")
        (tmp_path / "__pycache__").mkdir()
        (tmp_path / "__pycache__" / "a.pyc").write_text("")
        assert names(pack(tmp_path).content) == [".gitignore", "keep/data.bin", "keep/x.log", "sub/.aidosignore", "train.py"]

    def test_a_nested_pattern_reaches_no_further_than_its_folder(self, tmp_path: Path) -> None:
        write(tmp_path, a__b__x_dot_txt="", a__x_dot_txt="", x_dot_txt="")
        (tmp_path / "a" / ".gitignore").write_text("x.txt\n")
        assert names(pack(tmp_path).content) == ["a/.gitignore", "x.txt"]

    def test_what_is_no_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CodeNotPackable, match="not a directory"):
            pack(tmp_path / "nowhere")

    def test_a_link_that_leads_out_is_refused_and_one_inside_is_a_copy(self, tmp_path: Path) -> None:
        code = tmp_path / "code"
        write(code, train_dot_py="real")
        (code / "copy.py").symlink_to("train.py")
        assert zipfile.ZipFile(io.BytesIO(pack(code).content)).read("copy.py") == b"real"
        (tmp_path / "secret").write_text("s3 key")
        (code / "leak").symlink_to(tmp_path / "secret")
        with pytest.raises(CodeNotPackable, match="leads out"):
            pack(code)

    def test_a_linked_directory_is_not_walked(self, tmp_path: Path) -> None:
        code = tmp_path / "code"
        write(code, train_dot_py="")
        (code / "loop").symlink_to(code)
        (code / "out").symlink_to("/etc")
        assert names(pack(code).content) == ["train.py"]

    def test_too_much_is_refused_with_the_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packing, "MAX_CODE_BYTES", 1000)
        (tmp_path / "data.bin").write_bytes(os.urandom(5000))
        with pytest.raises(CodeTooLarge, match="aidosignore"):
            pack(tmp_path)

    def test_names_that_are_not_unicode_are_one_clear_error(self, tmp_path: Path) -> None:
        try:
            (tmp_path / os.fsdecode(b"\xff.py")).write_text("")
        except OSError:
            pytest.skip("this file system has no such names")
        with pytest.raises(CodeNotPackable):
            pack(tmp_path)


class TestCheckPackage:
    def check(self, tmp_path: Path, content: bytes, sha256: str = "") -> None:
        path = tmp_path / "code.zip"
        path.write_bytes(content)
        check_package(path, sha256 or hashlib.sha256(content).hexdigest())

    def test_what_the_client_packs_is_good(self, tmp_path: Path) -> None:
        code = tmp_path / "code"
        write(code, train_dot_py="", lib__tune_dot_py="")
        self.check(tmp_path, pack(code).content)

    @pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b"])
    def test_a_path_that_leaves_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(BadPackage, match="outside"):
            self.check(tmp_path, zip_of(**{name: "x"}))

    def test_a_link_in_the_archive_is_refused(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as package:
            link = zipfile.ZipInfo("link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            package.writestr(link, "/etc/passwd")
        with pytest.raises(BadPackage, match="not a plain file"):
            self.check(tmp_path, buffer.getvalue())

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip"])
    def test_what_is_no_zip_is_refused(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(BadPackage, match="not a zip"):
            self.check(tmp_path, content)

    def test_another_content_than_announced_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadPackage, match="SHA-256"):
            self.check(tmp_path, zip_of(main_py=""), "0" * 64)

    def test_a_bomb_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(code_package, "MAX_UNPACKED_BYTES", 1000)
        with pytest.raises(BadPackage, match="unpacks to"):
            self.check(tmp_path, zip_of(big="0" * 5000))

    @pytest.mark.parametrize("name", ["tune.py", "tune/__init__.py", "ray.py"])
    def test_code_that_would_hide_the_platforms_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(BadPackage, match="rename it"):
            self.check(tmp_path, zip_of(**{name: ""}))
