"""What a state refuses to begin with."""

from __future__ import annotations

import optax
import pytest
from small_models import small_model, training

import jaxtl


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_transforms_that_train_other_parameters_than_they_answer_with(clip_norm) -> None:
    model = small_model(until="layer1")
    apart = optax.chain(optax.clip(1.0), optax.contrib.schedule_free_sgd(0.1))
    optimizer = jaxtl.multi_transform({"all": apart}, training("fc"), clip_norm=clip_norm)
    fine = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    for begin in (
        lambda: jaxtl.TrainState.create(model, optimizer),
        lambda: jaxtl.TrainState.create(model, fine).advance(model, optimizer),
    ):
        with pytest.raises(jaxtl.InputError, match=r"schedule_free keeps the parameters to evaluate apart"):
            begin()
