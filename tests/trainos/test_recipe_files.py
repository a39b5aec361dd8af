"""What a recipe's file may say, and what is told of one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aidos.cli.training import submission
from aidos.errors import InvalidRequest
from aidos.recipes import RecipeInvalid, check_recipe, read_recipe
from aidos.schemas.recipes import Boosting, Lightning, Lora, Recipe, Sklearn, Torch

ROOT = Path(__file__).resolve().parents[2]
TREES: dict[str, Any] = {"recipe": "xgboost", "dataset": "tumours@main", "target": "diagnosis", "model": "tumours"}


class TestCheckRecipe:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"recipe": "catboost"}, "'recipe' must be one of sklearn, xgboost, lightgbm, torch, lightning, lora."),
            ({"round": 3}, "there is no field 'round': did you mean 'rounds'?"),
            ({"rounds": 0}, "'rounds': Input should be greater than or equal to 1, got 0."),
            ({"rounds": "9"}, "'rounds': must not be a string, got '9'."),
            ({"target": None}, "'target': "),
            ({"early_stopping_rounds": 5}, "early_stopping_rounds needs eval"),
            ({"recipe": "torch", "module": "network:Net", "learning_rate": "3e-4"}, "YAML reads that as text: write 3.0e-4 for 3e-4."),
            ({"recipe": "torch", "module": "network"}, "'module': "),
            ({"recipe": "sklearn", "estimator": "os.system"}, "'estimator': "),
        ],
    )
    def test_names_the_field_and_what_it_must_be(self, changes: dict[str, Any], told: str) -> None:
        with pytest.raises(RecipeInvalid, match=re.escape(told)) as refused:
            check_recipe(TREES | changes, "tumours.yaml")
        assert str(refused.value).startswith("tumours.yaml: ")

    def test_a_missing_field_is_explained(self) -> None:
        with pytest.raises(RecipeInvalid, match="'target' is missing: The column that is told from the others"):
            check_recipe({name: value for name, value in TREES.items() if name != "target"}, "tumours.yaml")

    @pytest.mark.parametrize("found", [None, [], "xgboost", 7])
    def test_what_has_no_fields_is_none(self, found: object) -> None:
        with pytest.raises(RecipeInvalid, match="a recipe is fields with values"):
            check_recipe(found, "tumours.yaml")

    def test_a_file_that_is_no_yaml_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("recipe: [")
        with pytest.raises(RecipeInvalid, match="this is no YAML"):
            read_recipe(tmp_path / "a.yaml")
        with pytest.raises(RecipeInvalid, match="cannot be read"):
            read_recipe(tmp_path / "b.yaml")


class TestExamples:
    @pytest.mark.parametrize("path", ["smollm2/lora.yaml", "tabular/boosting.yaml"])
    def test_are_recipes(self, path: str) -> None:
        assert read_recipe(ROOT / "examples" / path).model


class TestPage:
    @pytest.mark.parametrize("kind", [Sklearn, Boosting, Torch, Lightning, Lora], ids=lambda kind: kind.__name__)
    def test_names_every_field(self, kind: type[Recipe]) -> None:
        page = (ROOT / "docs/trainos-recipes.md").read_text()
        assert [name for name in kind.model_fields if f"`{name}`" not in page and name != "recipe"] == []


class TestSubmission:
    def test_a_recipe_is_a_command_over_its_datasets(self, tmp_path: Path) -> None:
        file = tmp_path / "trees.yaml"
        file.write_text(yaml.safe_dump(TREES))
        (tmp_path / "secret").touch()
        with submission(None, None, ["more@main"], None, file) as made:
            assert made.name == "tumours" and made.datasets == ["tumours@main", "more@main"]
            assert made.command == ["python", "-m", "tune.trainos.recipes", "trees.yaml"]
            assert [path.name for path in made.directory.iterdir()] == ["trees.yaml"]

    def test_the_code_that_it_names_goes_along(self, tmp_path: Path) -> None:
        (tmp_path / "net.yaml").write_text(yaml.safe_dump({"recipe": "torch", "dataset": "d@main", "model": "m", "module": "network:Net"}))
        with submission("mine", None, None, None, tmp_path / "net.yaml") as made:
            assert made.directory == tmp_path and made.name == "mine"

    @pytest.mark.parametrize(("name", "command", "recipe"), [("a", None, None), ("a", ["true"], Path("a.yaml")), (None, ["true"], None)])
    def test_a_job_is_one_of_both_and_has_a_name(self, name: str | None, command: list[str] | None, recipe: Path | None) -> None:
        with pytest.raises(InvalidRequest), submission(name, command, None, None, recipe):
            pass
