"""Traces that are replayed, and times that are promised."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainos.queue.snapshots import HOUR, NOW, job, node, of, own, runs, snapshot
from tests.trainos.queue.test_properties import CLUSTERS, workloads
from tune.trainos.errors import ClusterInvalid, QuotasInvalid, TraceInvalid
from tune.trainos.models import Resources
from tune.trainos.queue import policy
from tune.trainos.queue.models import Decision, Node, Quota, Snapshot, Workload
from tune.trainos.queue.report import Report, jain
from tune.trainos.queue.simulation import Simulation, forecast, replay
from tune.trainos.queue.trace import EPOCH, project_of, read_nodes, read_quotas, read_trace

COLUMNS = "id,project,user,submit_s,run_s,limit_s,priority,workers,driver_cpu,worker_cpu,worker_gpu,checkpoint_s"


def csv(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([COLUMNS, *rows]))
    return path


def replayed(path: Path, nodes: str, quotas: dict[UUID, Quota] | None = None) -> Report:
    return replay(read_trace(path), read_nodes(nodes), quotas)


class TestReplay:
    def test_jobs_run_one_after_the_other_where_one_fits(self, tmp_path: Path) -> None:
        report = replayed(csv(tmp_path, *(f"j{i},vision,ada,{i},100,,,0,4,0,0," for i in range(3))), "1x4")
        assert (report.finished, report.makespan_s) == (3, 300.0)
        assert [report.waits.mean_s, report.waits.p50_s, report.waits.max_s] == [99.0, 99.0, 198.0]
        assert report.utilisation["CPU"] == 1.0

    def test_a_backfilled_job_is_counted_and_delays_nobody(self, tmp_path: Path) -> None:
        rows = ["long,vision,ada,0,100,100,,0,3,0,0,", "head,vision,ada,1,10,10,,0,4,0,0,", "short,vision,ada,2,50,50,,0,1,0,0,"]
        report = replayed(csv(tmp_path, *rows), "1x4")
        assert (report.backfilled, report.makespan_s) == (1, 110.0)

    def test_an_owner_gets_half_of_the_cluster_back_and_no_more_is_lost_than_since_the_checkpoints(self, tmp_path: Path) -> None:
        rows = [f"v{i},vision,ada,0,1000,,,0,1,0,0,60" for i in range(8)] + [f"t{i},text,bob,90,100,,,0,1,0,0,60" for i in range(8)]
        halves = {project_of(name): own(cpu=4) for name in ("vision", "text")}
        report = replayed(csv(tmp_path, *rows), "1x8", halves)
        text = next(project for project in report.projects if project.project == "text")
        assert report.preemptions == 4
        assert report.lost_s == 4 * 40, "each left at second 100, and had saved at second 60"
        assert text.waits.p50_s <= 10 + 100
        assert report.finished == 16

    def test_the_time_after_a_checkpoint_is_computed_again_and_what_came_before_is_not(self) -> None:
        simulation = Simulation([node("a", cpu=4)], save_s=5.0)
        low, high = job("low", cpu=4), job("high", cpu=4, priority=1)
        simulation.submit(at(low, 0), 100, 30)
        simulation.submit(at(high, 50), 10)
        simulation.run()
        assert simulation.executions[low.id].ended_s == 55 + 10 + 70, "30 of its 100 seconds were saved"

    def test_what_gave_way_after_a_day_does_not_stand_before_whom_it_made_room_for(self) -> None:
        simulation = Simulation([node("a", cpu=4)], save_s=5.0)
        low, high = job("low", cpu=4), job("high", cpu=4, priority=1)
        simulation.submit(at(low, 0), 40 * HOUR, 60)
        simulation.submit(at(high, 30 * HOUR), 10)
        simulation.run()
        assert simulation.preemptions == 1
        assert simulation.executions[high.id].ended_s == 30 * HOUR + 5 + 10

    def test_equal_projects_get_equal_shares_of_what_both_wait_for(self, tmp_path: Path) -> None:
        rows = [f"v{i},vision,ada,0,{10 + i % 7},,,0,1,0,0," for i in range(200)] + [
            f"t{i},text,bob,0,{20 + i % 5},,,0,1,0,0," for i in range(100)
        ]
        report = replayed(csv(tmp_path, *rows), "2x8")
        assert all(0.95 < project.share_ratio < 1.05 for project in report.projects)
        assert report.fairness > 0.995

    def test_a_project_of_twice_the_weight_gets_twice_as_much(self) -> None:
        simulation = Simulation([node("a", cpu=9)], {of("vision"): Quota(weight=2)})
        for i in range(90):
            simulation.submit(at(job(f"v{i}", cpu=1), 0), 10)
            simulation.submit(at(job(f"t{i}", cpu=1, project="text"), 0), 10)
        simulation.run(until_s=99)
        started = [execution.workload for execution in simulation.executions.values() if execution.first_started_s is not None]
        assert sum(workload.project_id == of("vision") for workload in started) == 60

    def test_what_can_never_start_is_reported(self, tmp_path: Path) -> None:
        report = replayed(csv(tmp_path, "big,vision,ada,0,1,,,1,0,0,8,", "small,vision,ada,0,1,,,0,1,0,0,"), "1x4")
        assert (report.finished, report.never_started) == (1, 1)

    def test_figures_and_projects_come_as_rows(self, tmp_path: Path) -> None:
        report = replayed(csv(tmp_path, "j,vision,ada,0,10,,,0,4,0,0,"), "1x4")
        assert {"figure": "makespan", "value": 10.0, "unit": "s"} in report.rows()
        assert report.project_rows()[0]["project"] == "vision"

    def test_jains_index(self) -> None:
        assert jain([1, 1, 1, 1]) == 1.0
        assert jain([1, 0, 0, 0]) == 0.25


def at(workload: Workload, second: float) -> Workload:
    return Workload(
        workload.id, workload.name, workload.project_id, workload.user, workload.gang, EPOCH + timedelta(seconds=second), workload.priority
    )


class TestTrace:
    def test_lines_of_json(self, tmp_path: Path) -> None:
        path = tmp_path / "trace.jsonl"
        path.write_text(json.dumps({"id": 7, "submit_s": 5, "run_s": 2.5, "workers": 2, "worker_gpu": 1, "driver_cpu": 1}) + "\n\n")
        (traced,) = read_trace(path)
        assert traced.workload.gang.resources == Resources(cpu=1, gpu=2)
        assert (traced.workload.queued_at - EPOCH).total_seconds() == 5
        assert (traced.run_s, traced.workload.limit_s, traced.project) == (2.5, None, "default")

    def test_the_standard_workload_format(self, tmp_path: Path) -> None:
        path = tmp_path / "archive.swf"
        path.write_text(
            "; Version: 2.2\n"
            "1 10 0 3600 64 -1 -1 128 7200 2097152 1 12 5 -1 1 -1 -1 -1\n"
            "2 20 -1 -1 -1 -1 -1 8 600 -1 5 12 5 -1 1 -1 -1 -1\n"
            "3 30 0 60 4 -1 -1 -1 -1 -1 1 13 6 -1 1 -1 -1 -1\n"
        )
        first, third = read_trace(path)
        assert first.workload.gang.resources == Resources(cpu=128, memory_gib=256)
        assert (first.workload.limit_s, first.workload.user, first.project, first.run_s) == (7200, "12", "5", 3600)
        assert (third.workload.gang.workers, third.workload.limit_s) == (4, None)

    @pytest.mark.parametrize(
        ("row", "line", "reason"),
        [
            ("j,vision,ada,0,,,,0,4,0,0,", 2, "run_s is missing"),
            ("j,vision,ada,-3,10,,,0,4,0,0,", 2, "submit_s: Input should be greater than or equal to 0, got '-3'"),
            ("j,vision,ada,0,nan,,,0,4,0,0,", 2, "run_s: Input should be a finite number, got 'nan'"),
            ("j,vision,ada,0,1,,,many,4,0,0,", 2, "workers: Input should be a valid integer"),
            ("j,vision,ada,0,1,,,0,4,0,0,,9", 2, "there is no field one more than the first line names"),
            ("\n\nj,vision,ada,0,,,,0,4,0,0,", 4, "run_s is missing"),
            ("j,vision,ada,0,1,,,0,4,0,0,\nj,vision,ada,0,1,,,0,4,0,0,", 3, "j is there twice"),
        ],
    )
    def test_a_line_that_cannot_be_replayed_is_named(self, tmp_path: Path, row: str, line: int, reason: str) -> None:
        with pytest.raises(TraceInvalid) as refused:
            read_trace(csv(tmp_path, row))
        assert refused.value.fields["line"] == line
        assert reason in refused.value.fields["reason"]

    @pytest.mark.parametrize(
        ("name", "content", "line"),
        [
            ("t.swf", b"1 10 0 3600\n", 1),
            ("t.swf", b"; header\n1 ten 0 3600 64 -1 -1 128 7200 -1 1 12 5\n", 2),
            ("t.jsonl", b"[1, 2]\n", 1),
            ("t.jsonl", b'{"id": 1, "submit_s": 0, "run_s": 1, "wokers": 2}\n', 1),
            ("t.csv", b"id,run_s\nj,1\n", 2),
            ("t.csv", b"\xff\xfe\x00", 1),
            ("t.swf.gz", b"no archive", 1),
        ],
    )
    def test_a_file_that_is_no_trace_is_refused(self, tmp_path: Path, name: str, content: bytes, line: int) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TraceInvalid) as refused:
            read_trace(tmp_path / name)
        assert refused.value.fields["line"] == line

    def test_an_archives_packed_file_is_read_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "archive.swf.gz"
        path.write_bytes(gzip.compress(b"1 10 0 3600 64 -1 -1 128 7200 -1 1 12 5 -1 1 -1 -1 -1\n"))
        assert read_trace(path)[0].workload.gang.workers == 128

    def test_a_line_that_is_not_json_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "trace.jsonl"
        path.write_text('{"id": 1, "submit_s": 0, "run_s": 1}\n{"id": \n')
        with pytest.raises(TraceInvalid, match="Line 2"):
            read_trace(path)

    def test_nodes_and_quotas(self, tmp_path: Path) -> None:
        nodes = read_nodes("2x32:8:256, 1x4")
        assert [each.total for each in nodes] == [Resources(32, 8, 256)] * 2 + [Resources(4)]
        assert len({each.id for each in nodes}) == 3
        (tmp_path / "quotas.yaml").write_text("vision:\n  nominal: {gpu: 8}\n  limit: {gpu: 16}\n  weight: 2\n")
        quota = read_quotas(tmp_path / "quotas.yaml")[project_of("vision")]
        assert (quota.nominal, quota.limit.gpu, quota.limit.cpu > 10**9, quota.weight) == (Resources(gpu=8), 16, True, 2.0)

    @pytest.mark.parametrize(
        ("content", "line", "reason"),
        [
            (b"vision:\n  nominal:\n    gpu: 8\n  limt: {gpu: 9}\n", 4, "there is no field vision.limt"),
            (b"vision:\n  nominal:\n    gpu: many\n", 3, "vision.nominal.gpu"),
            (b'{"vision": {"weight": 0}}', 1, "vision.weight"),
            (b"- vision\n", 1, "valid dictionary"),
            (b"vision: {nominal:\n", 2, "no YAML"),
            (b"vision: \xff\n", 1, "no YAML"),
            (b"vision: \x00\n", 1, "no YAML"),
        ],
    )
    def test_quotas_that_are_wrong_are_named_with_their_line(self, tmp_path: Path, content: bytes, line: int, reason: str) -> None:
        (tmp_path / "quotas.yaml").write_bytes(content)
        with pytest.raises(QuotasInvalid) as refused:
            read_quotas(tmp_path / "quotas.yaml")
        assert (refused.value.fields["file"], refused.value.fields["line"]) == ("quotas.yaml", line)
        assert reason in refused.value.fields["reason"]

    @pytest.mark.parametrize("given", ["", "32:8", "2x", "2x1:2:3:4", "x4", "0x4", "1x1.2.3"])
    def test_a_cluster_that_is_none_is_refused(self, given: str) -> None:
        with pytest.raises(ClusterInvalid):
            read_nodes(given)


class TestForecast:
    def test_says_when_each_job_starts_and_ends(self) -> None:
        running = [runs(job("runs", cpu=8), "a", for_s=HOUR)]
        first, second = job("first", cpu=8, age_s=20), job("second", cpu=8, age_s=10)
        said = forecast(snapshot([node("a", cpu=8)], [first, second], running), {of("runs"): 3 * HOUR, first.id: HOUR})
        assert said[first.id] == (NOW + timedelta(hours=2), NOW + timedelta(hours=3))
        assert said[second.id] == (NOW + timedelta(hours=3), NOW + timedelta(hours=4)), "an hour where nothing is known"

    def test_what_runs_longer_than_expected_is_taken_to_run_as_long_again(self) -> None:
        running = [runs(job("late", cpu=8), "a", for_s=2 * HOUR)]
        said = forecast(snapshot([node("a", cpu=8)], [first := job("first", cpu=8)], running), {of("late"): HOUR})
        assert said[first.id][0] == NOW + timedelta(hours=2)

    def test_knows_who_will_give_way(self) -> None:
        running = [runs(job("borrower", cpu=8), "a")]
        owner = job("owner", cpu=4, project="text")
        said = forecast(snapshot([node("a", cpu=8)], [owner], running, quotas={"text": own(cpu=4)}), {})
        assert said[owner.id][0] == NOW + timedelta(seconds=10)

    def test_what_serving_holds_is_not_expected_back(self) -> None:
        waiting = job("big", cpu=8)
        said = forecast(Snapshot(NOW, [Node("a", Resources(8), Resources(6))], [waiting], []), {})
        assert waiting.id not in said

    def test_looks_no_further_than_it_is_told(self) -> None:
        waiting = [job(f"w{i}", cpu=8, age_s=100 - i) for i in range(10)]
        assert len(forecast(snapshot([node("a", cpu=8)], waiting), {}, looks=3)) == 3


class TestRestart:
    @given(CLUSTERS, workloads(priorities=1), st.integers(0, 20))
    def test_the_queue_goes_on_alike_from_wherever_it_is_cut(
        self, nodes: list[Node], trace: list[tuple[Workload, float, float | None]], cut: int
    ) -> None:
        """From a snapshot alone, all later starts are the same: nothing is remembered between two looks."""
        looks: list[Snapshot] = []

        def decide(snapshot: Snapshot) -> Decision:
            looks.append(snapshot)
            return policy.decide(snapshot)

        whole = Simulation(nodes, decide=decide)
        for workload, run_s, _ in trace:
            whole.submit(workload, run_s)
        whole.run()
        at_cut = looks[min(cut, len(looks) - 1)]
        now_s = (at_cut.now - EPOCH).total_seconds()
        rest = Simulation(at_cut.nodes, start=at_cut.now, usage=at_cut.usage)
        for running in at_cut.running:
            rest.start_with(running, whole.executions[running.workload.id].ends_s - now_s)
        seen = {workload.id for workload in at_cut.waiting} | {running.workload.id for running in at_cut.running}
        for workload, run_s, _ in trace:
            if workload.id in {waiting.id for waiting in at_cut.waiting} or (workload.id not in seen and workload.queued_at > at_cut.now):
                rest.submit(workload, run_s)
        rest.run()
        for id, execution in rest.executions.items():
            started_s = whole.executions[id].first_started_s
            if execution.first_started_s is None or started_s is None:
                assert execution.first_started_s is started_s is None
            else:
                assert abs(execution.first_started_s + now_s - started_s) < 1e-3


class TestReplayOptions:
    def test_looking_once_a_second_starts_all_the_same(self) -> None:
        trace = [at(job(f"w{i}", cpu=2), i / 10) for i in range(50)]
        simulation = Simulation([node("a", cpu=8)], tick_s=1.0, depth=4)
        for workload in trace:
            simulation.submit(workload, 3.0)
        simulation.run()
        assert all(execution.ended_s is not None for execution in simulation.executions.values())
        assert simulation.looks < 60

    def test_an_empty_trace_is_an_empty_report(self) -> None:
        assert replay([], [node("a", cpu=8)]).workloads == 0
