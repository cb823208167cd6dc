import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.strategies import expand
from jaxtl.models.graph import Graph
from jaxtl.notices import quiet
from jaxtl.recipe import Recipe, load_recipe
from jaxtl.studies import measure
from jaxtl.studies import plan as study
from jaxtl.studies.decide import MOST_EPOCHS, SHORTEST, Measured, decide, names
from jaxtl.studies.measure import Probes, probe_stages
from jaxtl.studies.plan import duration, parse_budget, plan
from jaxtl.train.features import Features

STAGES = ("stem", "layer1", "layer2", "layer3")
RISING = Probes(dict(zip(STAGES, (0.4, 0.6, 0.75, 0.88), strict=True)), 500, {"as they are": 0.88, "turned": 0.5})


def measured(**changes):
    """Data such as flower photographs on a CPU: one step of an image is 0.1 s in full, 0.05 s for the last stage."""
    usual = Measured(
        classes=5,
        images=2934,
        val_images=736,
        imbalance=1.4,
        stages=tuple((stage,) for stage in STAGES),
        domain="near",
        distance=0.17,
        probes=RISING,
        forward=0.03,
        step=lambda depth: 0.03 + 0.02 * depth,
    )
    return dataclasses.replace(usual, **changes)


def recipe_of(decided):
    """The recipe of the decided fields: every one of them has to hold."""
    return Recipe.from_keywords(data={"source": "folder:x"}, **decided.fields)


def choice(decided, subject):
    (found,) = [decision for decision in decided.decisions if decision.subject == subject]
    return found


def test_enough_images_train_everything_though_the_rule_says_the_last_stage():
    decided = decide(measured())
    recipe = recipe_of(decided)
    assert recipe.groups == {"head": "fast", "*": "slow"}
    assert recipe.optimizer["fast"].lr == 10 * recipe.optimizer["slow"].lr == pytest.approx(2e-3)
    assert (recipe.epochs, recipe.schedule.name, recipe.data.augment) == (5, "one_cycle", "light")
    frozen = choice(decided, "what trains")
    assert frozen.overrules
    assert "layer3 and the head train" in str(frozen)
    assert "12.0%" in str(frozen)
    assert decided.seconds == pytest.approx(5 * (2934 * 0.11 + 736 * 0.03))


@pytest.mark.parametrize(
    ("budget", "trained", "epochs"),
    [
        (10_000, set(), 10),  # 900 steps; more would be of no use
        (2_000, set(), 5),
        (1_000, {"layer2", "layer3"}, 4),  # everything takes 345 s an epoch: not three times
        (600, {"layer3"}, 3),
    ],
)
def test_the_budget_decides_how_much_trains(budget, trained, epochs):
    decided = decide(measured(), budget)
    recipe = recipe_of(decided)
    assert {part for part in recipe.groups if part in STAGES} == trained
    assert (recipe.groups["*"] == "frozen") == bool(trained)
    assert recipe.epochs == epochs
    assert decided.seconds <= budget
    if trained:
        assert "budget" in choice(decided, "what trains").reason


def test_a_budget_for_nothing_else_fits_the_head_alone():
    decided = decide(measured(), budget=100)
    assert decided.fields == {"strategy": "linear-probe", "data.augment": "none"}
    assert f"does not hold {SHORTEST}" in choice(decided, "what trains").reason
    assert recipe_of(decided).strategy == "linear-probe"


def test_few_images_and_good_probes_leave_the_body_alone():
    few = decide(measured(images=244, classes=2))
    assert few.fields["strategy"] == "linear-probe"
    assert "244 training images" in choice(few, "what trains").reason
    good = Probes({"stem": 0.7, "layer3": 0.997}, 500)
    assert decide(measured(probes=good, stages=(("stem",), ("layer3",)))).fields["strategy"] == "linear-probe"
    assert not choice(decide(measured(images=100, classes=5)), "what trains").overrules  # the rule says so, too


def test_far_images_train_everything_by_depth():
    views = {"as they are": 0.87, "mirrored": 0.87, "turned": 0.86}
    far = measured(classes=10, images=1600, domain="far", distance=0.6, probes=dataclasses.replace(RISING, views=views))
    decided = decide(far)
    recipe = recipe_of(decided)
    assert recipe.groups == {"head": "fast", "layer2": "slow", "layer3": "slow", "*": "early"}
    rates = [recipe.optimizer[group].lr for group in ("early", "slow", "fast")]
    assert rates == sorted(rates)
    assert recipe.data.augment == "light"
    assert "86% turned; there is no up" in choice(decided, "augmentation").reason
    assert "no up" not in choice(decide(measured()), "augmentation").reason
    views["mirrored"] = 0.6
    assert recipe_of(decide(far)).data.augment == "glyph"
    glyphs = decide(dataclasses.replace(far, glyphs=True))
    assert recipe_of(glyphs).data.augment == "glyph"


def test_many_classes_of_few_images_have_a_rate_for_the_body():
    """The rule for under 100 images a class names none."""
    decided = decide(measured(classes=20, images=1000))
    assert recipe_of(decided).optimizer["slow"].lr == pytest.approx(2e-4)


def test_falling_probes_say_where_transfer_ends():
    probes = Probes(dict(zip(STAGES, (0.5, 0.8, 0.7, 0.6), strict=True)), 500)
    decided = decide(measured(probes=probes))
    assert "falls behind layer1 (80.0%, then 60.0%)" in choice(decided, "what trains").reason
    assert recipe_of(decided).groups["*"] != "frozen"


def test_what_stands_behind_the_last_stage_goes_with_it():
    stages = (("stem",), ("blocks.0",), ("blocks.1", "norm"))
    probes = Probes({"stem": 0.4, "blocks.0": 0.6, "blocks.1": 0.88, "norm": 0.8}, 500)
    found = measured(stages=stages, probes=probes)
    assert "the probes rise up to blocks.1" in choice(decide(found), "what trains").reason
    decided = decide(found, 600)
    assert choice(decided, "what trains").choice == "blocks.1, norm and the head train"
    assert recipe_of(decided).groups == {"head": "fast", "blocks.1": "slow", "norm": "slow", "*": "frozen"}
    far = recipe_of(decide(dataclasses.replace(found, domain="far", distance=0.6)))
    assert far.groups == {"head": "fast", "blocks.0": "slow", "blocks.1": "slow", "norm": "slow", "*": "early"}


def test_the_last_stage_is_that_of_the_strategy():
    for name, last in (("vit_tiny_patch16_224", "blocks.11"), ("efficientnet_b0", "blocks.6"), ("resnet18", "layer4")):
        graph = Graph(name)
        groups = expand(Recipe.from_keywords(strategy="last-stage"), graph).groups
        assert names(graph.counted_stages) == graph.stages[:-1]
        assert graph.counted_stages[-1][0] == last
        assert groups == {"head": "fast", **dict.fromkeys(graph.counted_stages[-1], "slow"), "*": "frozen"}


def test_what_is_timed_is_what_would_train(monkeypatch):
    """Of a network with a final norm of its own, whose domain nothing tells."""
    timed = []
    monkeypatch.setattr(study, "step_seconds", lambda model, data, recipe: timed.append(recipe.groups) or 0.05)
    model = SimpleNamespace(graph=Graph("vit_tiny_patch16_224"))
    data = SimpleNamespace(classes=("a", "b"), val=(), name="folder:x")
    seen = SimpleNamespace(images=600, imbalance=1.0)
    found = study._measured(model, data, seen, None, RISING, 0.03, Recipe())
    assert (found.domain, found.distance) == ("medium", None)
    assert found.step(1) == 0.05
    assert timed == [{"head": "fast", "blocks.11": "slow", "norm": "slow", "*": "frozen"}]


@pytest.mark.parametrize("budget", [None, 600, 100])
def test_where_there_is_no_batch_norm_none_is_spoken_of(budget):
    decided = decide(measured(domain="medium", distance=None), budget)
    assert "BatchNorm" not in " ".join(map(str, decided.decisions))
    assert "batch_norm" not in decided.fields
    assert "BatchNorm: " in " ".join(map(str, decide(measured(), budget).decisions))


def test_millions_of_far_images_start_from_scratch():
    decided = decide(measured(images=2_000_000, domain="far", distance=1.0))
    assert recipe_of(decided).strategy == "scratch"
    assert decided.fields["epochs"] == MOST_EPOCHS


def test_unequal_classes_are_weighted():
    assert recipe_of(decide(measured(imbalance=8))).class_weights == "balanced"
    assert recipe_of(decide(measured())).class_weights is None


@pytest.mark.parametrize(("text", "seconds"), [("10min", 600), ("90s", 90), ("2h", 7200), (" 0.5 H", 1800)])
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "min", "-5min", "0s", "10 parsecs", "1e3s"])
def test_what_is_no_budget(text):
    with pytest.raises(InputError, match="no budget"):
        parse_budget(text)


def test_durations():
    assert [duration(seconds) for seconds in (99, 101, 5399, 5401)] == ["99 s", "2 min", "90 min", "1.5 h"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Red and blue squares, dark at the top: 24 a class to train on, 4 to validate on, 16 pixels."""
    root = tmp_path_factory.mktemp("squares")
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 4)):
        for name, channel in (("blue", 2), ("red", 0)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 60, (16, 16, 3), dtype=np.uint8)
                pixels[8:, :, channel] += 150
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def planned(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "new" / "squares.yaml"
    files = [file.relative_to(folder) for file in sorted(folder.rglob("*.png"))]
    rows = "".join(f"{file},{file.parts[1]},{file.parts[0]}\n" for file in files)
    (folder / "squares.csv").write_text(f"id,what,split\n{rows}")
    there = []
    found = plan(
        f"csv:{folder}/squares.csv",
        "cifar_resnet20",
        weights=None,
        budget=60,
        output=path,
        size=16,
        crop_pct=1.0,
        progress=False,
        told=lambda found: there.append(path.exists()),
        path_column="id",
        label_column=["what"],
    )
    assert there == [False], "what was measured is told before it is written"
    return found


def test_a_plan_writes_a_recipe_that_runs_as_written(planned):
    text = planned.path.read_text()
    assert text.startswith("# Planned for csv:")
    assert all(decision.subject in text for decision in planned.decisions)
    recipe = load_recipe(planned.path)
    assert recipe == planned.recipe
    assert recipe.output.startswith("runs/squares")
    from jaxtl.train.run import train

    with quiet():
        result = train(recipe.replace(output=None))
    assert result.best["val_accuracy"] > 0.9


def test_the_report_shows_what_was_measured(planned):
    report = str(planned)
    for word in ("48 training", "layer3", "overall", "linear probes", "decisions", planned.command):
        assert word in report
    assert all(len(line) <= 120 for line in report.splitlines() if line != planned.command)
    assert planned.command == f"jaxtl train {planned.path}"


def test_probes_use_training_images_alone_and_see_what_a_view_changes(folder, monkeypatch):
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    model = model.replace(preprocess=model.preprocess.replace(size=16, crop_pct=1.0))
    images = jaxtl.open_data(f"folder:{folder}", model)

    def seen(model, data, split="train", *, stages=None, batch_size=64):
        assert split == "train"
        assert not set(data.train.names) & set(images.val.names)
        top = np.array([np.asarray(data.train[i][0])[:8].mean() for i in range(len(data.train))], np.float32)
        red = np.array([np.asarray(data.train[i][0])[..., 0].mean() for i in range(len(data.train))], np.float32)
        known = np.stack([red * (top < 45), np.ones_like(red)], axis=1)
        noise = np.random.default_rng(0).standard_normal((len(red), 2)).astype(np.float32)
        return Features({stage: known if stage == "layer3" else noise for stage in stages}, data.train.labels)

    monkeypatch.setattr(measure, "extract", seen)
    found = probe_stages(model, images, most=48)
    assert found.images == 48
    assert found.stages["layer3"] == 1.0
    assert found.stages["stem"] < 0.8
    assert found.transferable == "layer3"
    assert found.views["as they are"] == found.views["mirrored"] == 1.0
    assert found.views["turned"] < 0.8


@pytest.mark.parametrize("fields", [{}, {"task": "multi-label"}, {"task": "regression"}])
def test_labels_that_are_not_one_class_are_refused_with_what_plan_takes(folder, fields):
    labels = {"multi-label": "a;b", "regression": 0.5}.get(fields.get("task"), "red;square")
    rows = "".join(f"{file.relative_to(folder)},{labels}\n" for file in sorted(folder.rglob("*.png")))
    (folder / "others.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(InputError, match=r"one class an image.*loss=sigmoid.*task 'class'"):
        plan(f"csv:{folder}/others.csv", "cifar_resnet20", weights=None, size=16, progress=False, **fields)


def test_what_is_timed_is_computed_in_the_precision_of_the_recipe(folder, monkeypatch):
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    images = jaxtl.open_data(f"folder:{folder}", model)
    precisions, prepared = [], measure.prepared

    def train_step(*_, precision="f32", **__):
        precisions.append(precision)
        return lambda state, batch: (state, {"loss": 0.0})

    monkeypatch.setattr(measure, "make_train_step", train_step)
    monkeypatch.setattr(measure, "prepared", lambda *given: (precisions.append(given[2]), prepared(*given))[1])
    monkeypatch.setattr(measure, "_median", lambda run: (jax.eval_shape(run), 1.0)[1])
    for precision in ("bf16", "f32"):
        recipe = Recipe(precision=precision, batch_size=4)
        measure.forward_seconds(model, images, recipe)
        measure.step_seconds(model, images, recipe)
    assert precisions == ["bf16", "bf16", "f32", "f32"]


def test_it_keeps_what_it_compiles(folder, monkeypatch):
    class _KeptError(Exception):
        """In place of the rest."""

    def kept():
        raise _KeptError

    monkeypatch.setattr("jaxtl.studies.plan.keep_compiled", kept)
    with pytest.raises(_KeptError):
        plan(f"folder:{folder}", "cifar_resnet20", weights=None)


def test_a_negative_budget_is_refused(folder):
    with pytest.raises(InputError, match="above 0"):
        plan(f"folder:{folder}", "cifar_resnet20", weights=None, budget=-1)
