from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import batch, small_model, training

import jaxtl
from jaxtl.backend import on_cpu
from jaxtl.train.update import updated

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
GRADIENTS = {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.arange(3.0)}
OPTIMIZERS = {
    "adamw": optax.adamw(1e-2),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "noise": optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(0)), optax.sgd(0.1)),
    "reads parameters": optax.contrib.schedule_free_adamw(1e-2),
    "averages parameters": optax.chain(optax.sgd(0.1), optax.ema(0.9)),
}


def _leaves(tree):
    data = (
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    )
    return [np.asarray(leaf) for leaf in data]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("finite", [True, False])
def test_it_does_what_the_optimizer_does_or_nothing(name: str, finite: bool) -> None:
    update, state = OPTIMIZERS[name].update, OPTIMIZERS[name].init(PARAMS)

    @jax.jit
    def expected(gradients, state, params):
        updates, state = update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def found(gradients, state, params):
        return updated(update, gradients, state, params, jnp.array(finite))

    params = PARAMS
    for _ in range(2):
        wanted = expected(GRADIENTS, state, params) if finite else (params, state)
        params, state = jax.jit(found)(GRADIENTS, state, params)
        for one, other in zip(_leaves((params, state)), _leaves(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.skipif(not on_cpu(), reason="the state waits for the parameters on a CPU alone")
def test_a_steps_optimizer_state_is_overwritten_without_a_copy() -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"all": optax.adamw(1e-3)}, training("layer3", "fc"))
    step = jaxtl.make_train_step(model, optimizer).lower(jaxtl.TrainState.create(model, optimizer), batch())
    text = step.compile().as_text()
    assert "(%state_opt_state" in text
    assert not re.findall(r"= f32\[\S+ copy\(%state_opt_state\S*", text)
