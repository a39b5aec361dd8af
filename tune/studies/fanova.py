"""``python -m tune.studies.fanova``: reads a space and points as JSON from its input, writes each parameter's share as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from pydantic import TypeAdapter

from aidos.schemas.studies import Space, contains
from tune.studies.search import to_distribution


def evaluate(asked: Mapping[str, Any]) -> dict[str, float]:
    """Shares that sum to 1, the largest first. Functional ANOVA wants a value in every trial: a conditional parameter that some lack
    has no share."""
    space = TypeAdapter(Space).validate_python(asked["space"])
    study = optuna.create_study()
    for point in asked["points"]:
        if all(contains(space[name], value) for name, value in point["params"].items()):
            distributions = {name: to_distribution(space[name]) for name in point["params"]}
            study.add_trial(optuna.create_trial(params=point["params"], distributions=distributions, value=point["value"]))
    if len(study.trials) < 2:
        return {}
    shared = [name for name in space if all(name in trial.params for trial in study.trials)]
    if not shared:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=shared)
    return {name: share for name, share in found.items() if math.isfinite(share)}


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sys.stdout.write(json.dumps(evaluate(json.load(sys.stdin))))
