from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import small_model

import jaxtl
from jaxtl.recipe import AdamW, Recipe
from jaxtl.studies.drift import distance, drift, linear_cka
from jaxtl.studies.transferability import frozen_up_to, transferability
from jaxtl.train import fine_tune as training
from jaxtl.trees import map_with_path

RECIPE = Recipe.from_keywords(
    model={"name": "cifar_resnet20", "weights": None, "until": "layer1"},
    data={"source": "digits", "size": 8, "augment": "none", "val_fraction": 0.05, "train_samples": 40},
    epochs=1,
    batch_size=20,
    eval_batch_size=100,
)


def test_cka_is_the_ratio_of_centred_gram_matrices() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((20, 4)), generator.standard_normal((20, 7))
    centring = np.eye(20) - 1 / 20
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert linear_cka(x, y) == pytest.approx(expected)
    rotation = np.linalg.qr(generator.standard_normal((4, 4)))[0]
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, np.ones((20, 2))) == 0
    assert linear_cka(np.ones((20, 3)), np.ones((20, 2))) == 1


def test_how_far_a_stage_moved() -> None:
    model = small_model(until="layer1", in_chans=1, num_classes=10)
    model = model.replace(preprocess=model.preprocess.replace(size=8))
    moved = model.replace(
        params=map_with_path(lambda path, leaf: 1.25 * leaf if path.startswith("layer1") else leaf, model.params)
    )
    assert distance(model, moved, "stem") == 0
    assert distance(model, moved, "layer1") == pytest.approx(0.25)
    data = jaxtl.open_data("digits", model, val_fraction=0.05, samples_per_class=1)
    stem, layer1 = drift(model, moved, data)
    assert (stem.stage, stem.distance, stem.similarity) == ("stem", 0, pytest.approx(1))
    assert layer1.distance == pytest.approx(0.25)
    assert 0 < layer1.similarity < 0.9999


def test_groups_for_each_number_of_frozen_stages() -> None:
    recipe = Recipe.from_keywords(strategy="gradual", epochs=7, optimizer={"slow": AdamW(lr=1e-3)})
    body = ("stem", "layer1")
    found = [frozen_up_to(recipe, count, body) for count in range(3)]
    assert [its.groups for its in found] == [
        {"head": "fast", "*": "slow"},
        {"head": "fast", "stem": "frozen", "*": "slow"},
        {"head": "fast", "*": "frozen"},
    ]
    assert [list(its.optimizer) for its in found] == [["slow", "fast"], ["slow", "fast"], ["fast"]]
    assert all((its.strategy, its.epochs) == (None, 7) for its in found)
    assert found[0].optimizer["slow"].lr == 1e-3
    early = {"head": "fast", "stem": "early", "*": "slow"}
    more = Recipe.from_keywords(groups=early, optimizer={group: AdamW(lr=1e-4) for group in early.values()})
    assert set(frozen_up_to(more, 1, body).optimizer) == {"slow", "fast"}
    other = Recipe.from_keywords(groups={"*": "mine"}, optimizer={"mine": AdamW(lr=1e-3)})
    assert frozen_up_to(other, 0, body) == frozen_up_to(Recipe(), 0, body)


def test_the_whole_study(tmp_path, capsys) -> None:
    found = transferability(RECIPE, output=tmp_path, seeds=1)
    assert [(row["frozen"], row["stage"]) for row in found["rows"]] == [(0, None), (1, "stem"), (2, "layer1")]
    trained = [row["trained"] for row in found["rows"]]
    assert trained[0] == 1
    assert trained[0] > trained[1] > trained[2] > 0
    assert [its["stage"] for its in found["stages"]] == ["stem", "layer1"]
    assert all(its["distance"] > 0 and 0 < its["similarity"] <= 1 for its in found["stages"])
    written = json.loads((tmp_path / "results.json").read_text())
    assert {"rows": written["rows"], "stages": written["stages"]} == found
    assert (tmp_path / "transferability.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "frozen-2" in printed
    assert f"{found['stages'][1]['similarity']:.3f}" in printed
    again = transferability(RECIPE, output=tmp_path, seeds=1, progress=False)
    assert again == found


def test_where_full_fine_tuning_diverges_nothing_is_said_of_the_stages(tmp_path, monkeypatch, capsys) -> None:
    def diverging(*_, **__):
        raise FloatingPointError("not finite")

    monkeypatch.setattr(training, "fine_tune", diverging)
    found = transferability(RECIPE, output=tmp_path, seeds=1)
    assert [(row["mean"], row["diverged"]) for row in found["rows"]] == [(None, 1)] * 3
    assert found["stages"] == []
    assert (tmp_path / "transferability.png").is_file()
    assert "frozen-0, seed 0: diverged: not finite" in capsys.readouterr().out
