"""What is done about the dirt that the reports found: whoever is in doubt goes. The tables in, the tables out."""

from typing import Any

import pandas as pd


def drop_copies_and_gaps(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The training rows that are complete, there once, and of no patient of the test split (which would measure memory)."""
    return train[~train.patient.isin(test.patient)].dropna().drop_duplicates("patient")


def drop_disbelieved(train: pd.DataFrame, path: str, report: dict[str, Any]) -> pd.DataFrame:
    """Without the rows of the file whose label the `label_errors` report calls an issue. Its places are ``path:row``, from 1 on."""
    places = [each["place"].rpartition(":") for each in report["ranked"] if each["issue"]]
    rows = [int(row) - 1 for file, _, row in places if file == path]
    return train.drop(train.index[rows])
