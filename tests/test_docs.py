"""What the documentation shows holds; its Python examples run as doctests."""

import re
from pathlib import Path

import families
import pytest

import jaxtl
from jaxtl.models.graph import Graph
from jaxtl.recipe import load_recipe

DOCS = Path(__file__).parents[1] / "docs"


def test_the_overrides_shown_fit_the_recipe_shown(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(.*?)```", (DOCS / "recipes.md").read_text(), re.DOTALL)[0]
    (tmp_path / "photos.yaml").write_text(shown)
    changes = re.search(r"^jaxtl train photos.yaml (\S+=.*)$", (DOCS / "recipes.md").read_text(), re.MULTILINE)
    recipe = load_recipe(tmp_path / "photos.yaml", changes[1].split())
    assert recipe.epochs == 10
    assert recipe.optimizer["fast"].lr == 3e-4


@pytest.mark.parametrize("page", ["recipes.md", "strategies.md"])
def test_recipes_shown_are_recipes(page: str, tmp_path: Path) -> None:
    for shown in re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        (tmp_path / "shown.yaml").write_text(shown)
        load_recipe(tmp_path / "shown.yaml")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_to_pages(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (DOCS / target).is_file(), target


def test_the_table_of_models_holds() -> None:
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| ([\d.e+-]+)[^|]* \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == page.count("| `")
    assert [name for name, *_ in rows] == families.names()
    for name, _, difference, tags in rows:
        assert float(difference) < 1e-4, name
        assert int(tags) == len(jaxtl.list_models(f"{name}.*", pretrained=True)), name
    for name, parameters, *_ in rows[:: len(rows) // 20]:
        assert int(parameters.replace(",", "")) == sum(leaf.size for leaf in Graph(name).params.values()), name
