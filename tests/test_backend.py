"""Which device forms and precision follow, and what is said of others."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxtl import backend
from jaxtl.models import onednn
from jaxtl.models.softmax_attention import attend
from jaxtl.models.window_reduction import max_pool
from jaxtl.recipe import Recipe
from jaxtl.train.precision import computed_in


class _Gpu(SimpleNamespace):
    def __str__(self) -> str:
        return f"cuda:{self.id}"


@pytest.fixture
def gpus(monkeypatch) -> list[_Gpu]:
    """Beside the machine's CPU, as JAX tells of them."""
    found = [_Gpu(id=0, platform="gpu", compute_capability="9.0", device_kind="NVIDIA H100")]
    real = jax.local_devices

    def devices(*, backend: str | None = None):
        return real(backend="cpu") if backend == "cpu" else found

    monkeypatch.setattr(jax, "local_devices", devices)
    backend.say_which_is_used.cache_clear()
    yield found
    backend.say_which_is_used.cache_clear()


@pytest.mark.parametrize("named", ["by its platform", "itself"])
def test_on_the_cpu_of_a_machine_with_a_gpu_forms_are_those_of_the_cpu(gpus, named: str) -> None:
    reached = onednn.has_onednn
    assert (backend.on_cpu(), backend.on_gpu(), backend.from_ampere_on(), reached()) == (False, True, True, False)
    assert computed_in(Recipe()) == "bf16"
    cpu = "cpu" if named == "by its platform" else jax.devices("cpu")[0]
    with jax.default_device(cpu):
        assert (backend.on_cpu(), backend.on_gpu(), backend.from_ampere_on()) == (True, False, False)
        assert computed_in(Recipe()) == "f32"
        pooled = jax.jit(jax.grad(lambda x: max_pool(x, 3, 2, ((1, 1), (1, 1))).sum()))(jnp.ones((1, 32, 32, 16)))
        attended = jax.jit(attend)(*[jnp.ones((2, 16, 2, 64), jnp.bfloat16)] * 3)
    assert (pooled.sum(), attended.max()) == (16**3, 1)


@pytest.mark.parametrize("count", [1, 4])
def test_of_several_gpus_it_is_said_once_which_is_used(gpus, capsys, count: int) -> None:
    gpus *= count
    backend.say_which_is_used(None)
    backend.say_which_is_used(None)
    assert capsys.readouterr().err.count("4 devices are here, and one is used, cuda:0") == (count == 4)
    with jax.default_device("cpu"):
        backend.say_which_is_used.__wrapped__(None)
    backend.say_which_is_used.__wrapped__(SimpleNamespace(device_set=tuple(gpus[:1] * 2)))
    assert not capsys.readouterr().err
    put = [_Gpu(id=3, platform="gpu")]
    backend.say_which_is_used.__wrapped__(SimpleNamespace(device_set=put))
    assert ("one is used, cuda:3" in capsys.readouterr().err) == (count == 4)
