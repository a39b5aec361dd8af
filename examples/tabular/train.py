"""Train a decision tree on a table: `aidos job submit --dataset tumours@main --dataset fresh@main -- python train.py tumours fresh`.

A single tree believes every row that it is given, so the state of its data shows. It is measured on the dataset's own test split,
and on tumours that were never in the dataset.
"""

import sys

import pandas as pd
from sklearn.tree import DecisionTreeClassifier

import aidos

SEED = 0


def load(name: str, split: str = "") -> tuple[pd.DataFrame, pd.Series]:
    rows = pd.read_parquet(aidos.dataset(f"{name}@main").to_local() / split / "rows.parquet")
    return rows.drop(columns=["patient", "diagnosis"]), rows.diagnosis


if __name__ == "__main__":
    name, fresh = sys.argv[1:]
    measurements, diagnoses = load(name, "train")
    tree = DecisionTreeClassifier(random_state=SEED).fit(measurements, diagnoses)
    metrics = {"own_test": tree.score(*load(name, "test")), "fresh": tree.score(*load(fresh))}
    with aidos.run(params={"rows": len(diagnoses), "seed": SEED}) as run:
        run.log_metrics(metrics, step=0)
    print(f"{len(diagnoses)} rows; accuracy on its own test split {metrics['own_test']:.1%}, on fresh tumours {metrics['fresh']:.1%}")
