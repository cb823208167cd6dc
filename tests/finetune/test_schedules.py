from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.finetune.schedules import make_schedule
from jaxtl.recipe import Constant, Cosine, OneCycle


def _rates(schedule, steps: int, steps_per_epoch: int = 10, peak: float = 0.1) -> np.ndarray:
    return np.asarray(jax.vmap(make_schedule(schedule, peak, steps, steps_per_epoch))(jnp.arange(steps)))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 301])
@pytest.mark.parametrize("pct_start", [0.05, 0.3, 0.85])
def test_one_cycle_is_torchs_at_every_step(steps: int, pct_start: float) -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=steps, pct_start=pct_start, div_factor=20.0, final_div_factor=100.0
    )
    expected = []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            theirs.step()
    ours = _rates(OneCycle(pct_start=pct_start, div_factor=20.0, final_div=100.0), steps)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [2, 9, 40, 200])
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.1, 1.0, 2.5, 100.0])
def test_cosine_rises_to_the_peak_and_falls_to_the_final_rate(steps: int, warmup_epochs: float) -> None:
    rates = _rates(Cosine(warmup_epochs=warmup_epochs, final=0.02), steps)
    warmup = min(round(10 * warmup_epochs), steps - 1)
    top = max(warmup - 1, 0)
    assert rates[top] == rates.max() == pytest.approx(0.1, rel=1e-6)
    assert rates[-1] == pytest.approx(0.002, rel=1e-4)
    assert (rates > 0).all()
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    if warmup:
        np.testing.assert_allclose(rates[:warmup], 0.1 * np.arange(1, warmup + 1) / warmup, rtol=1e-5)


def test_cosine_is_half_a_cosine() -> None:
    rates = _rates(Cosine(warmup_epochs=0.0, final=0.0), 11)
    np.testing.assert_allclose(rates, 0.1 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2, atol=1e-8)


def test_constant_keeps_the_peak() -> None:
    np.testing.assert_allclose(_rates(Constant(), 30), 0.1, rtol=1e-6)
    rates = _rates(Constant(warmup_epochs=0.5), 30)
    np.testing.assert_allclose(rates[:6], [0.02, 0.04, 0.06, 0.08, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("schedule", [Cosine(), Constant(), OneCycle()])
def test_a_run_of_one_step_and_whatever_comes_after_the_last_are_finite_and_positive(schedule) -> None:
    rate = make_schedule(schedule, 0.1, 1, 1)
    assert all(0 < float(rate(step)) < 0.1001 for step in (0, 1, 1000))
