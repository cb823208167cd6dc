"""What the documentation shows holds; its Python examples run as doctests."""

import ast
import inspect
import operator
import re
import shlex
from pathlib import Path

import families
import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

import jaxtl
from jaxtl.cli import app
from jaxtl.models.graph import Graph
from jaxtl.notices import quiet
from jaxtl.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """What a page shows in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def programs(page: Path) -> list[str]:
    """The Python of a page that no doctest runs."""
    return [block for block in blocks(page, "python") if ">>>" not in block]


def commands(page: Path) -> list[list[str]]:
    """The words behind each ``jaxtl`` in a page's blocks for a shell."""
    shown = "".join([*blocks(page, ""), *blocks(page, "sh")]).replace("\\\n", "")
    return [shlex.split(line, comments=True) for line in re.findall(r"^jaxtl (.*)$", shown, re.MULTILINE)]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_shown_call_what_there_is(page: Path) -> None:
    for program in programs(page):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("jaxtl."):
                called = operator.attrgetter(ast.unparse(node.func).removeprefix("jaxtl."))(jaxtl)
                inspect.signature(called).bind(*node.args, **{word.arg: word.value for word in node.keywords})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_shown_are_commands(page: Path) -> None:
    for name, *words in commands(page):
        get_command(app).commands[name].make_context(name, [*words])
        if name in ("train", "explain") and words[0].startswith("configs/"):
            load_recipe(ROOT / words[0], [word for word in words[1:] if "=" in word])


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_a_recipe_takes_the_overrides_in_its_head(config: Path) -> None:
    head = re.match(r"(?:#.*\n)+", config.read_text())[0].replace("\n#   ", "\n\t")
    for lines in re.findall(r"(?:^\t.*\n)+", head, re.MULTILINE):
        words = shlex.split(re.sub(r"\(.*\)|^\tjaxtl train \S+", "", lines, flags=re.MULTILINE))
        load_recipe(config, words)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the working folder: photos of two kinds, one photo more, and a small network's recipe. Its name as written."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in (*(f"photos/{kind}/{number}.png" for kind in "ab" for number in range(10)), "new.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8)).save(name)
    Path("photos.yaml").write_text("""
        model: {name: cifar_resnet20, weights: null, until: layer1}
        data: {source: "folder:photos"}
        output: runs/photos
    """)
    return '"cifar_resnet20", weights=None, until="layer1"'


def test_the_shortest_program_runs(photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = programs(DOCS / "index.md")
    exec(program.replace('"resnet18"', photos).replace("epochs=3", "epochs=1"), {})
    assert "new.jpg" in capsys.readouterr().out
    assert jaxtl.load("tuned").classes == ("a", "b")


def test_a_recipe_runs_from_python_in_both_ways(photos: str) -> None:
    (program,) = (block for block in programs(DOCS / "recipes.md") if "load_recipe" in block)
    with quiet():
        exec(program.replace('"resnet18"', photos).replace("epochs=10", "epochs=1"), {})
    assert {path.parent.name for path in Path("runs").glob("*/history.jsonl")} == {"photos", "again"}


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
