"""The log file of a process: whole lines, of bounded size, and only the last processes' files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.logfile import FILES_KEPT, LogFile, open_log


@pytest.mark.plain
class TestLogFile:
    def test_keeps_what_is_written_for_its_owner_alone(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path, "gateway")
        log.write("one\n")
        log.write("\ud800 two\n")
        log.flush()
        assert log.path.read_text() == "one\n\\ud800 two\n" and log.path.stat().st_mode & 0o777 == 0o600
        assert log.path.name == f"gateway-{os.getpid()}.log"

    def test_begins_anew_when_it_is_full(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path, "gateway", most_bytes=25)
        for number in range(6):
            log.write(f"line {number:04}\n")
        log.flush()
        assert log.path.read_text() == "line 0004\nline 0005\n"
        assert Path(f"{log.path}.1").read_text() == "line 0002\nline 0003\n"

    def test_goes_on_where_it_was(self, tmp_path: Path) -> None:
        for word in ("one", "two"):
            log = LogFile(tmp_path, "gateway")
            log.write(f"{word}\n")
            log.flush()
        assert log.path.read_text() == "one\ntwo\n"

    def test_removes_the_oldest_of_earlier_processes(self, tmp_path: Path) -> None:
        for pid in range(20):
            path = tmp_path / f"gateway-{pid}.log"
            path.touch()
            os.utime(path, (pid, pid))
        other = tmp_path / "endpoint-1.log"
        other.touch()
        LogFile(tmp_path, "gateway")
        assert {path.name for path in tmp_path.glob("gateway-*")} >= {f"gateway-{pid}.log" for pid in range(20 - FILES_KEPT, 20)}
        assert len(list(tmp_path.glob("gateway-*"))) == FILES_KEPT + 1 and other.exists()


@pytest.mark.plain
class TestOpenLog:
    def test_is_none_where_there_is_no_directory(self, tmp_path: Path) -> None:
        assert open_log(tmp_path / "nowhere", "gateway") is None

    def test_is_in_the_logs_of_the_home(self, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        log = open_log(tmp_path, "gateway")
        assert log is not None and log.path.parent == tmp_path / "logs"
