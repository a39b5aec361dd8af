"""The tabular example without a platform: its reports find the planted dirt, and a tree that is trained without it is right more often."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from aidos.schemas.dataforge.reports import LabelErrorsParams
from data_pipelines.dataforge.quality import pipeline
from examples.tabular.clean import drop_copies_and_gaps, drop_disbelieved
from examples.tabular.prepare import write_table, write_tumours
from tests.dataforge.quality.local_source import LocalSource

TRAIN = "train/rows.parquet"


def accuracy(train: pd.DataFrame, fresh: pd.DataFrame) -> float:
    """Of a tree as the example's job trains it, on tumours that are in no split."""
    examined = [rows.drop(columns=["patient", "diagnosis"]) for rows in (train, fresh)]
    return float(DecisionTreeClassifier(random_state=0).fit(examined[0], train.diagnosis).score(examined[1], fresh.diagnosis))


def test_a_tree_that_is_trained_on_what_the_reports_left_is_better(tmp_path: Path) -> None:
    planted = write_tumours(tmp_path)
    data = tmp_path / "tumours"
    came, test = pd.read_parquet(data / TRAIN), pd.read_parquet(data / "test" / "rows.parquet")
    fresh = pd.read_parquet(tmp_path / "fresh" / "rows.parquet")
    complete = drop_copies_and_gaps(came, test)
    write_table(complete, data / TRAIN)
    asked = LabelErrorsParams(label="diagnosis", files=TRAIN)
    believed = drop_disbelieved(complete, TRAIN, pipeline.label_errors(LocalSource(data), asked))  # type: ignore[arg-type]  # in a Source's place
    wrong = set(planted["wrong"]) & set(complete.patient)
    assert len(wrong - set(believed.patient)) >= 0.7 * len(wrong), "of the flipped labels most are found"
    assert not set(believed.patient) & set(test.patient), "nothing leaks"
    assert believed.patient.is_unique and not believed.isna().to_numpy().any()
    assert accuracy(believed, fresh) >= accuracy(came, fresh) + 0.05
