from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.train import evaluate
from jaxtl.train.evaluate import run_evaluation


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = small_model(until="layer1", in_chans=1, num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, val_fraction=0.06)


def test_every_image_counts_once_whatever_the_batch_size(model, data) -> None:
    images = np.stack([model.preprocess(data.val[i][0]) for i in range(len(data.val))])
    logits = np.asarray(model(jaxtl.normalise(images, model.preprocess.mean, model.preprocess.std)), np.float64)
    labels = data.val.labels
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    correct = int((logits.argmax(1) == labels).sum())
    for batch_size in (1, 7, 64, len(labels), 500):
        measured = jaxtl.evaluate(model, data, batch_size=batch_size)
        assert (measured["correct"], measured["count"]) == (correct, len(labels))
        assert measured["accuracy"] == correct / len(labels)
        assert measured["loss"] == pytest.approx(losses.mean(), rel=1e-4)


def test_a_split_by_name(model, data) -> None:
    assert jaxtl.evaluate(model, data, batch_size=500, split="train")["count"] == len(data.train)
    with pytest.raises(InputError, match="split must be 'train' or 'val', not 'test'"):
        jaxtl.evaluate(model, data, split="test")


def test_the_models_task_says_what_is_measured(model, data) -> None:
    named = model.replace(classes=data.classes)
    for task in ("multi-label", "regression"):
        with pytest.raises(InputError, match=f"its task is '{task}' and the data's is 'class': .*task='{task}'; or"):
            jaxtl.evaluate(named.replace(task=task), data)
    several = copy.copy(data)
    several.task = "multi-label"
    with pytest.raises(InputError, match=r"the data's is 'multi-label': .*model\.replace\(task='multi-label'\)"):
        jaxtl.evaluate(named, several)
    by_hand = copy.copy(data)
    by_hand.task = None
    with pytest.raises(InputError, match="the loss 'sigmoid' takes a number for each output"):
        jaxtl.evaluate(named.replace(task="multi-label"), by_hand)
    assert jaxtl.evaluate(named, by_hand) == jaxtl.evaluate(named, data)


def test_a_cpu_has_one_batch_under_way_at_a_time(monkeypatch) -> None:
    """Each takes memory of its own."""
    begun, done = [], []

    def step(state, batch):
        assert len(begun) == len(done)
        begun.append(batch)
        return {"count": jnp.array(1), "loss": jnp.array(0.5), "correct": jnp.array(1.0), "accuracy": jnp.array(1.0),
                "answers": jnp.array([0])}  # fmt: skip

    fetch = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: done.append(fetch(tree)) or done[-1])
    batches = [{"label": np.array([0]), "mask": np.array([True])}] * 3
    assert run_evaluation(step, None, batches)["count"] == 3
    assert len(done) == 3


def test_others_have_all_under_way_before_any_is_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "on_cpu", lambda: False)
    monkeypatch.setattr(jax, "device_get", lambda tree: pytest.fail("waited for"))
    batches = [{"label": np.array([0]), "mask": np.array([True])}] * 3
    assert len(evaluate.begun_evaluation(lambda *_: {}, None, batches)) == 3
