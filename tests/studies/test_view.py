"""What a study found, as data and as a page."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from aidos.cli.study_picture import write_png
from aidos.cli.study_view import build_charts, build_data, to_html
from tests.studies.examples import CONDITIONAL, make_study, make_trial

pytestmark = pytest.mark.plain
TRIALS = [
    make_trial(0, {"optimizer": "adam", "beta": 0.5, "layers": 1}, loss=3.0),
    make_trial(1, {"optimizer": "sgd", "momentum": 0.1, "nesterov": True, "layers": 2}, loss=4.0),
    make_trial(2, {"optimizer": "<b>", "beta": 0.5, "layers": 3}, "PRUNED", loss=1.0),
    make_trial(3, {"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "layers": 3}, loss=2.0),
]


class TestData:
    def test_history_has_the_best_up_to_each_complete_trial(self) -> None:
        data = build_data(make_study(space=CONDITIONAL), TRIALS, {}, [3])
        assert [(row["number"], row["value"], row["best"]) for row in data["history"]["loss"]] == [
            (0, 3.0, 3.0),
            (1, 4.0, 3.0),
            (3, 2.0, 2.0),
        ]

    def test_a_slice_has_the_trials_that_have_the_parameter(self) -> None:
        data = build_data(make_study(space=CONDITIONAL), TRIALS, {}, [3])
        assert [row["number"] for row in data["slice"]["loss"]["momentum"]] == [1, 3]

    def test_contours_are_of_the_most_important_pairs(self) -> None:
        data = build_data(make_study(space=CONDITIONAL), TRIALS, {"loss": {"layers": 0.9, "optimizer": 0.1}}, [3])
        first = data["contour"]["loss"][0]
        assert (first["x"], first["y"]) == ("layers", "optimizer") and len(first["points"]) == 3

    def test_the_pareto_front_is_marked(self) -> None:
        study = make_study(objectives=[{"metric": "loss"}, {"metric": "acc", "direction": "maximize"}])
        trials = [make_trial(number, {"x": 1.0 * number, "y": 1.0}, loss=1.0 * number, acc=0.5) for number in range(2)]
        assert [row["front"] for row in build_data(study, trials, {}, [0])["pareto"]] == [True, False]


class TestPage:
    @pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1], []], ids=["several", "one", "none"])
    def test_is_whole_whatever_there_is(self, trials: list) -> None:
        study = make_study(space=CONDITIONAL)
        page = to_html(study, build_data(study, trials, {"loss": {"layers": 1.0}}, []))
        assert "<script" not in page and "http" not in page and "<b>" not in page
        for drawing in page.split("<svg")[1:]:
            ElementTree.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")

    def test_draws_parameters_on_a_log_scale(self) -> None:
        study = make_study(space={"lr": {"kind": "float", "low": 1e-6, "high": 1, "log": True}})
        trials = [make_trial(number, {"lr": 10.0**-number}, loss=1.0 * number) for number in range(3)]
        page = to_html(study, build_data(study, trials, {}, [0]))
        places = [
            float(circle.split('cx="')[1].split('"')[0])
            for circle in page.split("value by lr")[1].split("</figure>")[0].split("<circle")[1:]
        ]
        assert places[0] - places[1] == pytest.approx(places[1] - places[2], abs=0.2)


class TestPicture:
    @pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1], []], ids=["several", "one", "none"])
    def test_draws_every_chart_of_the_page_whatever_there_is(self, trials: list, tmp_path: Path) -> None:
        study = make_study(space=CONDITIONAL)
        data = build_data(study, trials, {"loss": {"layers": 1.0}}, [])
        charts = [(heading, chart) for heading, drawn in build_charts(study, data) for chart in drawn]
        write_png(tmp_path / "found.png", "Study s", charts)
        assert to_html(study, data).count("<figure>") == len(charts)
        with Image.open(tmp_path / "found.png") as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width == 3 * 560
            colors = {color for _, color in picture.getcolors(100_000) or []}
        assert ((214, 31, 31) in {tuple(color) for color in colors}) == (len(trials) > 1), "the highest value is red"
