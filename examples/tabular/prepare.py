"""Write scikit-learn's breast cancer table with dirt in it: `python prepare.py [FOLDER]`.

569 real tumours, 30 measurements of each (Wolberg, Street and Mangasarian, "Breast Cancer Wisconsin (Diagnostic)", UCI, 1995, CC BY
4.0). FOLDER/tumours/train and FOLDER/tumours/test are the dataset; FOLDER/fresh holds 150 tumours that are kept clean, to
measure what a model is worth. Into the dataset go, always the same ones: wrong diagnoses, rows that are there twice, patients of
the test split in the training split, and missing measurements. FOLDER/planted.json says where.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

SEED, FRESH, TEST = 2, 150, 100
WRONG, TWICE, LEAKED, MISSING = 47, 30, 40, 24
GAPS = ["mean radius", "mean texture", "worst area"]


def write_tumours(folder: Path) -> dict[str, list[str]]:
    """Write the table and what is kept apart; returns the patients of each kind of dirt."""
    random = np.random.default_rng(SEED)
    rows = _load().sample(frac=1, random_state=SEED)
    fresh, test, train = rows[:FRESH], rows[FRESH : FRESH + TEST], rows[FRESH + TEST :].copy()
    wrong = random.choice(len(train), WRONG, replace=False)
    column = train.columns.get_loc("diagnosis")
    train.iloc[wrong, column] = train.iloc[wrong, column].map({"malignant": "benign", "benign": "malignant"})
    leaked = test.sample(LEAKED, random_state=SEED)
    missing = random.choice(np.setdiff1d(np.arange(len(train)), wrong), MISSING, replace=False)
    twice = train.drop(train.index[missing]).sample(TWICE, random_state=SEED)
    planted = {
        "wrong": train.patient.iloc[wrong].tolist(),
        "twice": twice.patient.tolist(),
        "leaked": leaked.patient.tolist(),
        "missing": train.patient.iloc[missing].tolist(),
    }
    for at, name in zip(missing, np.resize(GAPS, MISSING), strict=True):
        train.iloc[at, train.columns.get_loc(name)] = np.nan
    dirty = pd.concat([train, twice, leaked]).sample(frac=1, random_state=SEED)
    for name, table in (("tumours/train", dirty), ("tumours/test", test), ("fresh", fresh)):
        write_table(table, folder / name / "rows.parquet")
    (folder / "planted.json").write_text(json.dumps(planted, indent=1))
    return planted


def write_table(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)


def _load() -> pd.DataFrame:
    bunch = load_breast_cancer(as_frame=True)
    rows = bunch.data
    rows.insert(0, "patient", [f"patient {number:03}" for number in range(len(rows))])
    return rows.assign(diagnosis=np.array(bunch.target_names)[bunch.target])


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = write_tumours(target)
    print(", ".join(f"{len(patients)} {kind}" for kind, patients in found.items()), f"in {target}")
