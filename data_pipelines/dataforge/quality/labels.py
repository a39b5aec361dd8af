"""Which labels are probably wrong, by confident learning (Northcutt et al., 2021; cleanlab), and which examples lie apart. No Ray."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 0
LEAST_PER_CLASS = 5
MOST_CLASSES = 500
_NEIGHBOURS = 10


def split_folds(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and to predict, class by class; each example is predicted once."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    return list(splitter.split(np.zeros(labels.size), labels))


def predict_fold(vectors: np.ndarray, labels: np.ndarray, train: np.ndarray, held: np.ndarray, *, embedded: bool) -> np.ndarray:
    """[held, classes] probabilities by a model that has not seen them: linear over embeddings, a forest over everything else."""
    if embedded:
        model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    else:
        model = ExtraTreesClassifier(300, min_samples_leaf=2, random_state=SEED, n_jobs=1)
    model.fit(vectors[train], labels[train])
    found = np.zeros((held.size, int(labels.max()) + 1))
    found[:, model.classes_] = model.predict_proba(vectors[held])
    return found


def rank_labels(places: list[str], names: list[str], labels: np.ndarray, probabilities: np.ndarray, top: int) -> dict[str, Any]:
    """Examples by how little their label is believed, the least believed first."""
    scores = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    issues = find_label_issues(labels, probabilities, n_jobs=1)
    suggested = probabilities.argmax(axis=1)
    order = np.argsort(scores, kind="stable")
    confused = Counter((names[labels[at]], names[suggested[at]]) for at in np.flatnonzero(issues))
    return {
        "examined": len(places),
        "classes": {name: int((labels == at).sum()) for at, name in enumerate(names)},
        "accuracy": float((suggested == labels).mean()),
        "issues": int(issues.sum()),
        "confused": [{"label": given, "suggested": better, "count": count} for (given, better), count in confused.most_common(20)],
        "ranked": [
            {
                "place": places[at],
                "label": names[labels[at]],
                "suggested": names[suggested[at]],
                "score": float(scores[at]),
                "issue": bool(issues[at]),
            }
            for at in order[:top]
        ],
    }


def rank_outliers(places: list[str], vectors: np.ndarray, top: int) -> dict[str, Any]:
    """Examples by the mean distance to their ten nearest, every feature scaled alike; 1 is the typical distance, the median."""
    spread = vectors.std(axis=0)
    scaled = (vectors - vectors.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if not scaled.shape[1]:
        return {"examined": len(places), "ranked": []}
    nearest = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(places) - 1)).fit(scaled)
    distances = nearest.kneighbors()[0].mean(axis=1)
    scores = distances / (float(np.median(distances)) or 1.0)
    order = np.argsort(-scores, kind="stable")[:top]
    return {"examined": len(places), "ranked": [{"place": places[at], "score": float(scores[at])} for at in order]}
