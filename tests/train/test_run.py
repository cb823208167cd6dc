"""What a recipe starts from: the head that belongs to the classes of its images."""

from __future__ import annotations

import pytest
from small_models import bits, small_model

import jaxtl
from jaxtl.recipe import Recipe
from jaxtl.train.run import prepare

DIGITS = tuple("0123456789")


@pytest.mark.parametrize("names", [DIGITS, None, tuple("abcdefghij")], ids=["same", "none", "others"])
def test_a_foreign_head_is_not_trained_on(names, tmp_path) -> None:
    stored = small_model(until="layer1", num_classes=10).replace(classes=names)
    folder = jaxtl.save(stored, tmp_path / "stored")
    recipe = Recipe.from_keywords(
        model={"name": str(folder)}, data={"source": "digits", "size": 8, "train_samples": 20}, seed=3
    )
    model = prepare(recipe).model
    assert (bits(model.params["fc"]) == bits(stored.params["fc"])) == (names == DIGITS)
    assert bits(model.params["layer1"]) == bits(stored.params["layer1"])
    assert bits(prepare(recipe).model.params) == bits(model.params)
    assert model.classes == DIGITS
