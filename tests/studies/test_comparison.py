"""Comparing strategies and sweeping fields: the same budget for all, and no run twice."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.errors import InputError
from jaxtl.recipe import AdamW, Recipe
from jaxtl.studies import beforehand, runs
from jaxtl.studies.beforehand import Start, check_all
from jaxtl.studies.comparison import compare, with_strategy
from jaxtl.train import fine_tune as training

RECIPE = Recipe.from_keywords(
    model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
    data={"source": "digits", "size": 8, "augment": "none", "val_fraction": 0.05},
    epochs=1,
    batch_size=20,
    eval_batch_size=100,
)
HEAD_ONLY = {"groups": {"head": "fast", "*": "frozen"}, "optimizer": {"fast": {"lr": 0.05}}}
TWO = {"head only": HEAD_ONLY, "all": {}}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def rows(output):
    return compare(RECIPE, TWO, samples=40, seeds=2, output=output, progress=False)


def test_a_row_for_each_strategy(rows) -> None:
    assert [row["name"] for row in rows] == ["head only", "all"]
    for row in rows:
        assert len(row["accuracies"]) == 2
        assert row["mean"] == pytest.approx(sum(row["accuracies"]) / 2)
        assert (row["lowest"], row["highest"]) == (min(row["accuracies"]), max(row["accuracies"]))
        assert row["seconds"] > 0
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, until="stem")
    sizes = {path: leaf.size for path, leaf in model.graph.params.items()}
    head = sum(size for path, size in sizes.items() if path.startswith("fc."))
    assert rows[0]["trained"] == head / sum(sizes.values())
    assert rows[1]["trained"] == 1


def test_accuracies_are_those_of_the_models_that_were_written(rows, output) -> None:
    model = jaxtl.load(output / "head_only" / "seed-1" / "model")
    data = jaxtl.open_data("digits", model, val_fraction=0.05, seed=1)
    assert jaxtl.evaluate(model, data)["accuracy"] == pytest.approx(rows[0]["accuracies"][1])


def test_every_strategy_gets_the_same_budget_and_seeds(rows, output) -> None:
    stored = {
        (name, seed): json.loads((output / name / f"seed-{seed}" / "run.json").read_text())
        for name in ("head_only", "all")
        for seed in (0, 1)
    }
    own = ("groups", "optimizer", "seed")
    budgets = {json.dumps({k: v for k, v in run["recipe"].items() if k not in own}) for run in stored.values()}
    assert len(budgets) == 1
    assert all(run["recipe"]["seed"] == seed for (_, seed), run in stored.items())
    assert {run["recipe"]["data"]["train_samples"] for run in stored.values()} == {40}
    assert {run["history"][-1]["step"] for run in stored.values()} == {2}


def test_what_is_written(rows, output) -> None:
    written = json.loads((output / "results.json").read_text())
    assert written == {"samples": 40, "epochs": 1, "seeds": 2, "rows": rows}
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_whole_runs_are_not_repeated_and_lost_ones_are(rows, output, monkeypatch) -> None:
    trained = []
    whole = training.fine_tune

    def noted(model, data, recipe, **options):
        trained.append((recipe.output, options["resume"]))
        return whole(model, data, recipe, **options)

    monkeypatch.setattr(training, "fine_tune", noted)
    assert compare(RECIPE, TWO, samples=40, seeds=2, output=output, progress=False) == rows
    assert trained == []
    (output / "all" / "seed-1" / "run.json").unlink()
    again = compare(RECIPE, TWO, samples=40, seeds=2, output=output, progress=False)
    assert trained == [(str(output / "all" / "seed-1"), True)]
    assert again == rows


def test_an_interrupted_run_is_continued(output, tmp_path, monkeypatch) -> None:
    recipe = RECIPE.replace(epochs=3)
    whole = compare(recipe, {"head only": HEAD_ONLY}, samples=40, seeds=1, output=tmp_path / "whole", progress=False)

    write = training.write_history

    def interrupted(folder, history) -> None:
        write(folder, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_history", interrupted)
    call = {"samples": 40, "seeds": 1, "output": tmp_path / "cut", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        compare(recipe, {"head only": HEAD_ONLY}, **call)
    monkeypatch.undo()
    begun = (tmp_path / "cut" / "head_only" / "seed-0" / "history.jsonl").read_text()
    assert len(begun.splitlines()) == 2
    with pytest.raises(InputError, match="holds another run"):
        compare(recipe.replace(batch_size=10), {"head only": HEAD_ONLY}, **call)
    continued = compare(recipe, {"head only": HEAD_ONLY}, **call)
    assert continued[0]["accuracies"] == whole[0]["accuracies"]
    history = (tmp_path / "cut" / "head_only" / "seed-0" / "history.jsonl").read_text()
    assert history.startswith(begun)
    assert len(history.splitlines()) == 3


def test_another_recipe_in_the_same_output_is_refused(rows, output) -> None:
    with pytest.raises(InputError, match=r"holds the run of another recipe \(batch_size: 20 then, 10 now\)"):
        compare(RECIPE.replace(batch_size=10), TWO, samples=40, seeds=2, output=output, progress=False)


def test_runs_with_other_images_or_weights_are_not_compared(tmp_path) -> None:
    """A finished run is taken as it is only while the images and the weights are those that it had."""
    generator = np.random.default_rng(0)

    def add(name: str) -> None:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "images" / name)

    for name in ("ant", "bee"):
        for number in range(6):
            add(f"{name}/{number}.png")
    jaxtl.save(jaxtl.load("cifar_resnet20", weights=None, num_classes=2), tmp_path / "model")
    recipe = RECIPE.replace(
        model={"name": "cifar_resnet20", "weights": str(tmp_path / "model"), "until": "stem"},
        **{"data.source": f"folder:{tmp_path / 'images'}", "data.val_fraction": 0.4, "batch_size": 4},
    )
    call = {"seeds": 1, "output": tmp_path / "out", "progress": False}
    rows = compare(recipe, {"head only": HEAD_ONLY}, **call)
    assert compare(recipe, {"head only": HEAD_ONLY}, **call) == rows
    jaxtl.save(jaxtl.load("cifar_resnet20", weights=None, num_classes=2, seed=1), tmp_path / "model")
    with pytest.raises(InputError, match=r"^head only: .*seed-0 holds a run with other weights than there are now"):
        compare(recipe, TWO, **call)
    add("ant/new.png")
    with pytest.raises(InputError, match=r"seed-0 holds a run with other images than there are now"):
        compare(recipe, {"head only": HEAD_ONLY}, **call)
    assert not (tmp_path / "out" / "all").exists()


def test_every_seed_is_compared_with_today(monkeypatch) -> None:
    """Data is opened once for all names that share it, and where it is kept does not count."""
    opened: list[int] = []
    starts = {seed: Start(f"images {seed}", "weights") for seed in (0, 1)}
    monkeypatch.setattr(beforehand, "prepare", lambda recipe: opened.append(recipe.seed) or _Shared(recipe.seed))
    monkeypatch.setattr(beforehand, "settle", lambda model, data, recipe: _Shared(recipe.seed))
    monkeypatch.setattr(beforehand, "start_of", lambda prepared: starts[prepared.seed])
    two = [RECIPE.replace(seed=seed, output=f"out/{seed}") for seed in (0, 1)]
    recipes = {"a": two, "b": [recipe.replace(epochs=2) for recipe in two]}
    check_all(recipes, {"a": [None, starts[1]], "b": [None, None]})
    assert opened == [0, 1, 0]
    old = Start("images of yesterday", "weights")
    with pytest.raises(InputError, match=r"^a: out/0, out/1 hold runs with other images than there are now, .* them$"):
        check_all(recipes, {"a": [old, old], "b": [starts[0], starts[1]]})


class _Shared:
    """As much of what is prepared as a start needs."""

    def __init__(self, seed: int):
        self.seed, self.model, self.data = seed, None, None


def test_an_unreadable_result_is_named(rows, output, tmp_path) -> None:
    folder = tmp_path / "all" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is no result of a run"):
        compare(RECIPE, {"all": {}}, seeds=1, output=tmp_path, progress=False)


def test_named_strategies_and_the_table(tmp_path, capsys) -> None:
    recipe = RECIPE.replace(**{"optimizer.fast.lr": 0.05})
    rows = compare(recipe, ["features", "linear-probe"], samples=40, seeds=1, output=tmp_path)
    printed = capsys.readouterr().out
    assert "40 training images, 1 epochs, 1 seed" in printed
    for row in rows:
        assert row["name"] in printed
        assert runs.percent(row["mean"]) in printed
        assert 0 < row["trained"] < 0.5
    assert (tmp_path / "linear-probe" / "seed-0" / "model").is_dir()


def test_a_strategy_takes_the_place_of_the_recipes_own() -> None:
    recipe = Recipe.from_keywords(
        groups={"layer3": "slow", "head": "fast", "*": "frozen"},
        optimizer={"slow": AdamW(lr=1e-3), "fast": AdamW(lr=1e-2)},
        phases=[{"epochs": 1, "train": ["fast"]}, {"epochs": 2}],
    )
    changed = with_strategy(recipe, "full")
    assert (changed.strategy, changed.epochs, changed.optimizer["slow"].lr) == ("full", 3, 1e-3)
    assert changed.phases == ()
    with pytest.raises(InputError, match="no strategy is called 'feature'; did you mean 'features'"):
        with_strategy(recipe, "feature")
    other = Recipe.from_keywords(groups={"*": "mine"}, optimizer={"mine": AdamW(lr=1e-3)})
    assert with_strategy(other, "full") == with_strategy(Recipe(), "full")


def test_of_three_groups_slow_and_fast_are_kept(tmp_path, caplog) -> None:
    """As a plan for images far from the pretraining has them."""
    recipe = RECIPE.replace(
        groups={"head": "fast", "layer1": "slow", "*": "early"},
        optimizer={group: AdamW(lr=lr) for group, lr in (("early", 2e-4), ("slow", 5e-4), ("fast", 2e-3))},
    )
    assert {group: entry.lr for group, entry in with_strategy(recipe, "full").optimizer.items()} == {
        "slow": 5e-4,
        "fast": 2e-3,
    }
    with pytest.raises(InputError, match="seeds must be"), caplog.at_level(logging.INFO, "jaxtl"):
        compare(recipe, ["full", "last-stage"], seeds=0, output=tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "optimizer.early is left out: here the groups are slow (the body) and fast (the head)"
    ]


def test_strategies_that_the_data_has_no_use_for_are_told_before_the_first_run(tmp_path) -> None:
    lines = "\n".join(f"{number}.png,{'red' if number % 2 else 'red;big'}" for number in range(8))
    (tmp_path / "labels.csv").write_text(f"path,label\n{lines}\n")
    for number in range(8):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
    recipe = RECIPE.replace(loss="sigmoid", **{"data.source": f"csv:{tmp_path / 'labels.csv'}", "batch_size": 4})
    with pytest.raises(InputError, match=r"^lp-ft: .*linear_probe needs one class an image"):
        compare(recipe, ["features", "lp-ft"], seeds=1, output=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_nothing_to_compare(tmp_path) -> None:
    with pytest.raises(InputError, match="nothing to compare; name some of scratch"):
        compare(RECIPE, [], output=tmp_path)
    with pytest.raises(InputError, match="seeds must be at least 1, not 0"):
        compare(RECIPE, ["full"], seeds=0, output=tmp_path)
    assert not list(tmp_path.iterdir())
