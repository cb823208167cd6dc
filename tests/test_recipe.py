from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jaxtl.errors import InputError
from jaxtl.recipe import (
    SGD,
    AdamW,
    Augment,
    Constant,
    Cosine,
    Focal,
    ModelSection,
    OneCycle,
    Recipe,
    Softmax,
    as_recipe,
    load_recipe,
)

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))

WHOLE = """
model: {name: resnet50.a1_in1k, weights: null, until: layer3, drop_rate: 0.1}
data:
  source: folder:flowers
  size: 160
  crop_pct: 1e0
  augment: {scale: [0.5, 1], flip: 0}
  train_samples: 20
groups:
  "*.bn*.scale": frozen
  head: fast
  "*": slow
optimizer:
  slow: {name: sgd, lr: 1e-2, nesterov: true}
  fast: {lr: 1E-3, weight_decay: 5e-2}
schedule: {name: one_cycle, pct_start: 0.25}
epochs: 3
clip_norm: 1
output: runs/x
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def problems_of(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_every_section_is_read(write):
    recipe = load_recipe(write(WHOLE))
    assert recipe.model.name == "resnet50.a1_in1k"
    assert recipe.model.weights is None
    assert recipe.model.until == "layer3"
    assert recipe.data.size == (160, 160)
    assert recipe.data.crop_pct == 1.0
    assert recipe.data.augment == Augment(scale=(0.5, 1.0), flip=0.0)
    assert list(recipe.groups) == ["*.bn*.scale", "head", "*"]
    assert recipe.optimizer == {
        "slow": SGD(lr=0.01, nesterov=True),
        "fast": AdamW(lr=0.001, weight_decay=0.05),
    }
    assert recipe.schedule == OneCycle(pct_start=0.25)
    assert recipe.clip_norm == 1.0


def test_an_empty_file_is_the_default_recipe(write):
    assert load_recipe(write("# nothing\n")) == Recipe()


def test_defaults():
    recipe = Recipe()
    assert recipe.groups == {"head": "fast", "*": "slow"}
    assert recipe.optimizer == {"slow": AdamW(lr=1e-4), "fast": AdamW(lr=1e-3)}
    assert recipe.schedule == Cosine(warmup_epochs=0.5, final=0.01)
    assert recipe.model is None
    assert recipe.data is None
    assert not recipe.optimizer["fast"].decay_norm_and_bias


def test_default_optimizers_follow_the_groups():
    assert list(Recipe.from_keywords(groups={"head": "fast", "*": "frozen"}).optimizer) == ["fast"]


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "'1e-4'", "0.0001"])
def test_every_spelling_of_a_number(write, written):
    assert load_recipe(write(""), [f"optimizer.fast.lr={written}"]).optimizer["fast"].lr == 1e-4


@pytest.mark.parametrize("written", [".inf", ".nan", "nan", "inf", "fast", "[1]", "true", "0", "-1e-3"])
def test_what_is_no_learning_rate(write, written):
    assert "optimizer.fast.lr" in problems_of(lambda: load_recipe(write(""), [f"optimizer.fast.lr={written}"]))


def test_whole_numbers_are_not_rounded(write):
    assert "epochs" in problems_of(lambda: load_recipe(write("epochs: 2.5")))
    assert "epochs" in problems_of(lambda: load_recipe(write("epochs: true")))
    assert "data.size" in problems_of(lambda: load_recipe(write("data: {source: digits, size: 10.5}")))


def test_unknown_fields_name_the_nearest_and_all_are_listed(write):
    message = problems_of(
        lambda: load_recipe(
            write(
                "epoch: 3\nmodel: {nme: resnet18}\ndata: {source: x, augment: {flips: 1}}\n"
                "optimizer: {fast: {name: sgd, lr: 1, momentun: 0.8}, slow: {learning_rate: 1}}\n"
                "schedule: {warmup: 1}\n"
            )
        )
    )
    assert "unknown field 'epoch' at top level; did you mean 'epochs'?" in message
    assert "unknown field 'nme' in model; did you mean 'name'?" in message
    assert "model lacks 'name'" in message
    assert "unknown field 'flips' in data.augment; did you mean 'flip'?" in message
    assert "unknown field 'momentun' in optimizer.fast; did you mean 'momentum'?" in message
    assert "unknown field 'learning_rate' in optimizer.slow; there are lr, schedule, weight_decay" in message
    assert "optimizer.slow lacks 'lr'" in message
    assert "unknown field 'warmup' in schedule; did you mean 'warmup_epochs'?" in message
    assert message.splitlines()[0].endswith("recipe.yaml: 8 problems")
    assert len(message.splitlines()) == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs: 0", "epochs is 0, and nothing but linear_probe does anything then"),
        ("model: resnet18", "model must be a mapping of fields, not 'resnet18'"),
        (
            "data: {source: x, augment: lihgt}",
            "data.augment must be 'auto', 'none', 'light', 'medium', 'strong' or 'glyph', not 'lihgt'; did you",
        ),
        ("data: {source: x, augment: null}", "data.augment must be a mapping of fields, not None"),
        ("data: {source: x, augment: {scale: [1, 0.5]}}", "data.augment.scale must go from the smaller to the larger"),
        ("data: {source: x, augment: {scale: [1, 2]}}", "data.augment.scale must not go above 1"),
        ("data: {source: x, size: [32]}", "data.size"),
        (
            "schedule: {name: cosin}",
            "schedule.name must be 'cosine' or 'linear' or 'constant' or 'one_cycle' or 'step' or 'plateau', "
            "not 'cosin'; did you mean 'cosine'?",
        ),
        (
            "optimizer: {fast: {name: adem, lr: 1}, slow: {lr: 1}}",
            "or 'muon', not 'adem'; did you mean 'adam' or 'adamw'?",
        ),
        ("groups: {'*': 'very fast'}", "'very fast' is no name for a group"),
        ("groups: [head]", "groups must be a mapping of fields, not ['head']"),
        ("groups: {1: fast}", "groups"),
        ("optimizer: {1: {lr: 1}}", "optimizer"),
        ("optimizer: 3", "optimizer must be a mapping of fields, not 3"),
        ("schedule: 3", "schedule must be a mapping of fields, not 3"),
        ("schedule: cosin", "schedule.name must be 'cosine' or 'linear' or"),
        ("optimizer: {fast: sgd}", "optimizer.fast lacks 'lr'"),
        ("seed: 0b_", "recipe.yaml: invalid literal for int()"),
        ("- epochs", "a recipe is a mapping of fields"),
        ("epochs: 3\n  seed: 1\n", "recipe.yaml, line 2, column 7: "),
        ("epochs: 3\nseed: 1\nepochs: 4\n", "recipe.yaml, line 3, column 1: 'epochs' is already set on line 1"),
        ("groups:\n  a: fast\n  a: slow\n", "line 3, column 3: 'a' is already set on line 2"),
    ],
)
def test_each_problem_is_said_in_one_sentence(write, text, expected):
    message = problems_of(lambda: load_recipe(write(text)))
    assert expected in message
    assert "pydantic" not in message
    assert "[type=" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("groups: {head: fats, '*': frozen}", ["'fats', which has no entry under optimizer"]),
        (
            "groups: {head: fast, layer4: slwo, '*': frozen}\noptimizer: {fast: {lr: 1}, slow: {lr: 1}}",
            [
                "groups puts 'layer4' in 'slwo', which has no entry",
                "did you mean 'slow'",
                "optimizer.slow is used by no rule",
            ],
        ),
        ("optimizer: {fast: {lr: 1}, slow: {lr: 1}, frozen: {lr: 1}}", ["optimizer.frozen: 'frozen' is reserved"]),
        ("groups: {'*': frozen}", ["nothing would be trained"]),
        ("groups: {'*': slow, head: fast}", ["nothing reaches 'head' behind '*'"]),
        ("epoch: 3\ngroups: {head: quick, '*': frozen}", ["unknown field 'epoch'", "'quick', which has no entry"]),
    ],
)
def test_groups_and_optimizers_fit_each_other(write, text, expected):
    message = problems_of(lambda: load_recipe(write(text)))
    for part in expected:
        assert part in message


def test_direct_construction_checks_too():
    with pytest.raises(InputError, match="no entry under optimizer"):
        Recipe(groups={"*": "warm"})
    message = problems_of(lambda: Recipe(epoch=3, model=ModelSection(name="a"), data={"sorce": "digits"}))
    assert "unknown field 'epoch' at top level; did you mean 'epochs'?" in message
    assert "unknown field 'sorce' in data; did you mean 'source'" in message


def test_what_is_taken_for_a_recipe(write):
    assert as_recipe(None) == Recipe()
    assert as_recipe(write("epochs: 2")) == as_recipe(str(write("epochs: 2"))) == as_recipe({"epochs": 2})
    assert "did you mean 'epochs'?" in problems_of(lambda: as_recipe({"epoch": 2}))
    assert "there is no recipe 'nowhere.yaml'" in problems_of(lambda: as_recipe("nowhere.yaml"))
    for wrong in (3, {1: 2}, ["epochs=3"]):
        assert "a recipe is a jaxtl.Recipe, the path of" in problems_of(lambda wrong=wrong: as_recipe(wrong))


def test_overrides(write):
    recipe = load_recipe(
        write(WHOLE),
        ["epochs=7", "optimizer.fast.lr=3e-4", "output=null", "data.augment.scale=[0.9, 1]", "model.weights=default"],
    )
    assert (recipe.epochs, recipe.optimizer["fast"].lr, recipe.output) == (7, 3e-4, None)
    assert recipe.data.augment.scale == (0.9, 1.0)
    assert recipe.model.weights == "default"


def test_null_takes_out_what_has_no_use_for_it(write):
    recipe = load_recipe(
        write(WHOLE), ["groups=null", "optimizer=null", "schedule=null", "epochs=null", "model.weights=null"]
    )
    assert (recipe.groups, recipe.optimizer) == (Recipe().groups, Recipe().optimizer)
    assert (recipe.schedule, recipe.epochs) == (Cosine(), 5)
    assert recipe.model.weights is None  # random weights
    three = (
        "groups: {head: fast, layer3: slow, '*': frozen}\noptimizer: {slow: {lr: 1}, fast: {lr: 1, weight_decay: 1}}"
    )
    kept = load_recipe(write(three), ["groups.layer3=null", "optimizer.slow=null", "optimizer.fast.weight_decay=null"])
    assert kept.groups == {"head": "fast", "*": "frozen"}
    assert kept.optimizer == {"fast": AdamW(lr=1.0)}
    message = problems_of(lambda: load_recipe(write(three), ["groups.layer3=frozen"]))
    assert message.endswith("optimizer.slow is used by no rule under groups; optimizer.slow=null takes it out")
    assert set(load_recipe(write(three), ["groups.layer3=frozen", "optimizer.slow=null"]).optimizer) == {"fast"}
    for name in ("groups.layer9", "optimizer.slower", "optimizer.slow.decay_norm_and_bias"):
        message = problems_of(lambda name=name: load_recipe(write(three), [f"{name}=null"]))
        assert message == f"'{name}' cannot be taken out by null: the recipe does not have it"
    assert Recipe().replace(patience=3).replace(patience=None).patience is None
    assert "unknown field 'epoch'" in problems_of(lambda: load_recipe(write(three), ["epoch=null"]))


def test_a_strategy_takes_the_place_of_what_it_decides(write, caplog):
    path = write(
        "groups: {head: fast, layer4: slow, '*': early}\nlayer_decay: 0.5\n"
        "optimizer: {slow: {lr: 1}, fast: {lr: 2}, early: {lr: 3}}\n"
        "phases: [{epochs: 1, train: [fast]}, {epochs: 3}]"
    )
    caplog.set_level("INFO", logger="jaxtl")
    expected = Recipe.from_keywords(strategy="gradual", optimizer={"slow": {"lr": 1}, "fast": {"lr": 2}}, epochs=4)
    assert load_recipe(path, ["strategy=gradual"]) == expected
    assert caplog.messages == [
        "strategy 'gradual' takes the place of the recipe's groups, layer_decay, phases, optimizer.early"
    ]
    assert load_recipe(path).replace(strategy="gradual") == expected
    changed = load_recipe(path, ["strategy=gradual", "optimizer.fast.lr=5"])
    assert changed == expected.replace(**{"optimizer.fast.lr": 5.0})
    with pytest.raises(
        InputError, match=r"optimizer\.early: a strategy's groups .*; optimizer\.early=null takes it out"
    ):
        load_recipe(path, ["strategy=gradual", "optimizer.early.lr=5"])
    assert load_recipe(write("groups: {'*': mid}\noptimizer: {mid: {lr: 1}}"), ["strategy=full"]).strategy == "full"
    caplog.clear()
    assert load_recipe(write("strategy: full"), ["strategy=gradual"]).strategy == "gradual"
    assert load_recipe(write("groups: {'*': fast}"), ["strategy=null"]).groups == {"*": "fast"}
    assert not caplog.messages
    both = problems_of(lambda: load_recipe(write("strategy: full"), ["groups.layer3=slow"]))
    assert "strategy 'full' sets groups itself; take one of them out (groups=null or strategy=null)" in both


@pytest.mark.parametrize("strategy", ["gradual", "features", "lp-ft"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_take_a_strategy(path, strategy):
    assert load_recipe(path, [f"strategy={strategy}"]).strategy == strategy


def test_overrides_reach_the_defaults(write):
    recipe = load_recipe(write(""), ["optimizer.fast.lr=3e-4", "data.source=folder:a=b", "schedule.warmup_epochs=1"])
    assert recipe.optimizer == {"slow": AdamW(lr=1e-4), "fast": AdamW(lr=3e-4)}
    assert recipe.data.source == "folder:a=b"
    assert recipe.schedule == Cosine(warmup_epochs=1.0)


@pytest.mark.parametrize("rule", ["groups.layer4.*=warm", 'groups."layer4.*"=warm', "groups.'layer4.*'=warm"])
def test_a_new_group_rule_wins(write, rule):
    recipe = load_recipe(write(""), ["optimizer.warm.lr=1e-5", rule])
    assert recipe.groups == {"layer4.*": "warm", "head": "fast", "*": "slow"}
    assert next(iter(recipe.groups)) == "layer4.*"
    assert recipe.optimizer["warm"] == AdamW(lr=1e-5)


def test_an_override_of_a_rule_keeps_its_place(write):
    recipe = load_recipe(write(""), ["groups.*=frozen"])
    assert list(recipe.groups.items()) == [("head", "fast"), ("*", "frozen")]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "'epochs' is no override; write field=value"),
        ("output=", "'output=' is no override"),
        ("epochs.first=3", "epochs is 3, which has no fields"),
        ("data.augment=[", "the value of 'data.augment=[' is no YAML, line 1"),
        ("optimizer..lr=3", "'optimizer..lr' is no dotted name"),
        ("seed=0b_", "the value of 'seed=0b_' is no YAML: invalid literal"),
        (
            "data.source=folder:/a/b #2",
            "a '#' at the beginning or after a blank starts a comment; put the value in quotes",
        ),
        ("output=#2", "starts a comment"),
        ("data.size=[8, # 9\n8]", "starts a comment"),
        (
            "optimzer.fast.lr=3",
            "with optimzer.fast.lr=3: unknown field 'optimzer' at top level; did you mean 'optimizer'?",
        ),
    ],
)
def test_overrides_that_do_not_fit(write, override, expected):
    assert expected in problems_of(lambda: load_recipe(write(WHOLE), [override]))


def test_overrides_that_look_like_a_comment_or_a_date(write):
    recipe = load_recipe(write(WHOLE), ["data.source='folder:/a #2'", "output=2024-13-45", "model.until=a#b"])
    assert (recipe.data.source, recipe.output, recipe.model.until) == ("folder:/a #2", "2024-13-45", "a#b")
    assert load_recipe(write("output: 2024-11-27")).output == "2024-11-27"


def test_a_word_is_a_name(write):
    recipe = load_recipe(write("loss: focal\nschedule: one_cycle"))
    assert (recipe.loss, recipe.schedule) == (Focal(), OneCycle())
    assert load_recipe(write(""), ["loss=mse"]).loss.name == "mse"


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("optimizer: {slow: {name: adamw, lr: 1, weight_decay: 0.1}, fast: {lr: 1}}", ()),
        ("strategy: full", ()),
        ("", ("optimizer.slow.lr=1", "optimizer.slow.weight_decay=0.1")),
    ],
)
def test_another_name_leaves_the_defaults_of_the_one_before_behind(write, text, changes):
    """From a file, from keywords, and from a recipe that objects were put into."""
    path = write(text)
    named = load_recipe(path, [*changes, "optimizer.slow.name=sgd", "schedule.name=one_cycle"])
    assert isinstance(named.optimizer["slow"], SGD)
    replaced = load_recipe(path, changes).replace(**{"optimizer.slow.name": "sgd", "schedule.name": "one_cycle"})
    assert replaced == named
    assert replaced.replace(**{"schedule.name": "cosine"}).schedule == Cosine()
    if "weight_decay" in text + "".join(changes):
        assert named.optimizer["slow"] == SGD(lr=1.0, weight_decay=0.1)
    objects = Recipe.from_keywords(optimizer={"slow": AdamW(lr=1.0), "fast": SGD(lr=1.0)}, schedule=OneCycle())
    changed = objects.replace(**{"optimizer.slow.name": "sgd", "optimizer.fast.lr": 2, "schedule.name": "constant"})
    assert changed.optimizer == {"slow": SGD(lr=1.0), "fast": SGD(lr=2.0)}
    assert changed.schedule == Constant()


def test_what_was_given_to_the_kind_before_is_not_dropped_in_silence(write):
    path = write("optimizer: {fast: {lr: 1, b1: 0.8}, slow: {lr: 1}}")
    message = problems_of(lambda: load_recipe(path).replace(**{"optimizer.fast.name": "sgd"}))
    assert "unknown field 'b1' in optimizer.fast" in message


def test_a_missing_file_names_the_nearest(write):
    path = write("")
    message = problems_of(lambda: load_recipe(path.with_name("recipes.yaml")))
    assert message == f"there is no recipe '{path.with_name('recipes.yaml')}'; did you mean '{path}'?"


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    assert "no text file" in problems_of(lambda: load_recipe(path))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_load_name_their_command_and_survive_yaml(path, write):
    recipe = load_recipe(path)
    assert recipe.require("model").name
    assert recipe.require("data").source
    assert load_recipe(write(recipe.to_yaml())) == recipe
    head = path.read_text(encoding="utf-8").split("\nmodel:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "#   jaxtl " in head
    assert "# Measured: " in head


def test_there_are_configs():
    assert len(CONFIGS) >= 4


def test_yaml_keeps_everything(write):
    recipe = load_recipe(write(WHOLE))
    again = load_recipe(write(recipe.to_yaml()))
    assert again == recipe
    assert list(again.groups) == list(recipe.groups)


@given(
    lr=st.floats(1e-12, 1e3),
    text=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
    seed=st.integers(0, 2**32 - 1),
)
def test_yaml_keeps_any_value(tmp_path_factory, lr, text, seed):
    recipe = Recipe.from_keywords(optimizer={"fast": SGD(lr=lr)}, groups={text: "fast"}, seed=seed, output=text)
    path = tmp_path_factory.mktemp("yaml") / "r.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_keywords(tmp_path):
    recipe = Recipe.from_keywords(
        epochs=3,
        optimizer={"fast": SGD(lr=0.1), "slow": {"lr": 1e-5}},
        schedule=Constant(),
        output=tmp_path / "out",
        **{"optimizer.slow.weight_decay": 0},
    )
    assert recipe.optimizer == {"fast": SGD(lr=0.1), "slow": AdamW(lr=1e-5, weight_decay=0.0)}
    assert recipe.schedule == Constant()
    assert recipe.output == str(tmp_path / "out")
    assert "did you mean 'epochs'" in problems_of(lambda: Recipe.from_keywords(epoch=3))
    assert "optimizer must be a mapping" in problems_of(lambda: Recipe.from_keywords(optimizer=print))


def test_replace_leaves_the_original_and_lets_defaults_follow():
    recipe = Recipe.from_keywords(batch_size=8)
    changed = recipe.replace(groups={"head": "fast", "*": "frozen"}, **{"optimizer.fast.lr": 1e-2})
    assert recipe.groups == {"head": "fast", "*": "slow"}
    assert changed.batch_size == 8
    assert changed.optimizer == {"fast": AdamW(lr=1e-2)}


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().epochs = 3


def test_a_section_that_is_needed_is_asked_for():
    with pytest.raises(InputError, match=r"no 'model' section; add 'model: \{name: resnet18\}'"):
        Recipe().require("model")


def test_augment_says_what_the_data_part_says():
    from jaxtl.data import augment

    given = {field.name: field.default for field in dataclasses.fields(augment.Augment)}
    assert given == Augment().model_dump()
    for name in ("none", "light", "glyph"):
        assert Augment(**dataclasses.asdict(augment.preset(name)))
        assert Recipe.from_keywords(data={"source": "digits", "augment": name})


def test_a_word_can_be_refined(write):
    path = write("loss: focal\nschedule: linear\noptimizer: {fast: {lr: 0.1, schedule: step}}\ngroups: {'*': fast}")
    overrides = ["loss.gamma=1", "schedule.warmup_epochs=2", "optimizer.fast.schedule.factor=0.5"]
    recipe = load_recipe(path, overrides)
    assert (recipe.loss.gamma, recipe.schedule.warmup_epochs, recipe.optimizer["fast"].schedule.factor) == (1, 2, 0.5)
    assert load_recipe(write(""), ["loss=focal", "loss.gamma=1"]).loss == Focal(gamma=1)
    with pytest.raises(InputError, match="strategy is 'full', which has no fields"):
        load_recipe(write("strategy: full"), ["strategy.x=1"])


def test_another_kind_in_a_recipe_that_was_written(write):
    whole = Recipe.from_keywords(loss={"name": "focal", "gamma": 2.0}, schedule={"name": "one_cycle", "pct_start": 0.5})
    path = write(whole.to_yaml())
    recipe = load_recipe(path, ["optimizer.fast.name=sgd", "loss.name=softmax"])
    assert (recipe.optimizer["fast"].name, recipe.optimizer["slow"].name) == ("sgd", "adamw")
    assert recipe.loss == Softmax()
    with pytest.raises(InputError, match="unknown field 'pct_start'"):
        load_recipe(path, ["schedule.name=cosine"])


def test_schema_describes_every_field():
    schema = Recipe.model_json_schema()
    fields = schema["$defs"]["DataSection"]["properties"]
    assert {"type": "integer"} in fields["size"]["anyOf"]
    assert "held out" in fields["val_fraction"]["description"]
    word, kinds = schema["properties"]["schedule"]["anyOf"]
    assert (word, kinds["discriminator"]["propertyName"]) == ({"type": "string"}, "name")
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "gradul"}, "not 'gradul'; did you mean 'gradual'?"),
        ({"strategy": "gradual", "groups": {"*": "slow"}}, "strategy 'gradual' sets groups itself"),
        (
            {"strategy": "full", "optimizer": {"body": {"lr": 1}}},
            "a strategy's groups are 'slow' (the body) and 'fast'",
        ),
        ({"phases": [{"epochs": 1, "train": ["fats"]}, {"epochs": 1}]}, "'fats' is no group; did you mean 'fast'?"),
        ({"phases": [{"epochs": 1, "train": ["fast"]}]}, "no phase trains the group 'slow'"),
        (
            {"phases": [{"epochs": 1, "train": ["fast"], "rates": {"slow": 1}}, {"epochs": 1}]},
            "rates.slow is for a group",
        ),
        ({"phases": [{"epochs": 0, "train": ["fast"]}, {"epochs": 3}]}, "phases, number 1: it has 0 epochs; remove it"),
        ({"phases": [{"epochs": 2}], "epochs": 5}, "epochs is 5 and the phases' epochs add up to 2"),
        ({"phases": [{"epoch": 2}]}, "unknown field 'epoch' in phases.0; did you mean 'epochs'?"),
        ({"batch_norm": "freeze"}, "batch_norm must be 'follow', 'frozen' or 'adapt', not 'freeze'"),
        ({"batch_norm": {"layer1": "freeze"}}, "batch_norm.layer1 must be 'follow', 'frozen' or 'adapt', not 'freeze'"),
        ({"accumulate": 3}, "accumulate 3 does not divide batch_size 32"),
        ({"loss": {"name": "mse"}, "label_smoothing": 0.1}, "label_smoothing has no meaning for the loss 'mse'"),
        ({"loss": {"name": "sigmoid"}, "class_weights": "balanced"}, "'balanced' needs one class an image"),
        ({"ema": 1}, "ema must be less than 1"),
    ],
)
def test_what_contradicts_itself_is_said_in_one_sentence(fields: dict, message: str) -> None:
    assert message in problems_of(lambda: Recipe.from_keywords(**fields))


def test_phases_make_the_epochs() -> None:
    recipe = Recipe.from_keywords(phases=[{"epochs": 2, "train": ["fast"]}, {"epochs": 3, "patience": 2}], patience=4)
    assert recipe.epochs == 5
    assert [phase.patience for phase in recipe.all_phases] == [None, 2]
    assert recipe.replace(seed=3).epochs == 5
    assert Recipe(epochs=7, patience=2).all_phases[0].patience == 2


def test_an_output_in_the_home_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Recipe.from_keywords(output="~/run").output == str(tmp_path / "run")
