from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.finetune.schedules import make_schedule, plateau_factor, rate_table
from jaxtl.recipe import Constant, Cosine, Linear, OneCycle, Plateau, Step


def _rates(schedule, steps: int, steps_per_epoch: int = 10, peak: float = 0.1) -> np.ndarray:
    return rate_table(schedule, peak, steps, steps_per_epoch)


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
@pytest.mark.parametrize("kind", [Cosine, Linear])
def test_it_rises_to_the_peak_and_falls_to_the_final_rate(kind: type, steps: int, warmup_epochs: float) -> None:
    rates = _rates(kind(warmup_epochs=warmup_epochs, final=0.02), steps)
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


def test_linear_is_a_straight_line() -> None:
    rates = _rates(Linear(warmup_epochs=0.3, final=0.0), 13)
    np.testing.assert_allclose(rates[2:], np.linspace(0.1, 0, 11), atol=1e-8)


@pytest.mark.parametrize("kind", [Constant, Plateau])
def test_constant_and_plateau_keep_the_peak(kind: type) -> None:
    np.testing.assert_allclose(_rates(kind(), 30), 0.1, rtol=1e-6)
    rates = _rates(kind(warmup_epochs=0.5), 30)
    np.testing.assert_allclose(rates[:6], [0.02, 0.04, 0.06, 0.08, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), Constant(), OneCycle(), Step(), Plateau()])
def test_a_run_of_one_step_and_whatever_comes_after_the_last_are_finite_and_positive(schedule) -> None:
    rate = make_schedule(schedule, 0.1, 1, 1)
    assert all(0 < float(rate(step)) < 0.1001 for step in (0, 1, 1000))


@pytest.mark.parametrize(("every_epochs", "steps_per_epoch"), [(1.0, 10), (3.0, 7), (0.1, 30), (0.7, 10), (1.1, 100)])
def test_step_is_torchs_counted_in_steps(every_epochs: float, steps_per_epoch: int) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, round(every_epochs * steps_per_epoch), gamma=0.5)
    expected = []
    for _ in range(60):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = _rates(Step(every_epochs=every_epochs, factor=0.5), 60, steps_per_epoch)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert len(set(ours.tolist())) == 1 + 59 // round(every_epochs * steps_per_epoch)


def test_step_with_parts_of_a_step_drops_at_the_first_step_behind_each_period() -> None:
    rates = _rates(Step(every_epochs=0.25, factor=0.5), 8, steps_per_epoch=10)
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** np.array([0, 0, 0, 1, 1, 2, 2, 2]), rtol=1e-6)


def test_step_counts_its_epochs_from_the_start_of_the_run() -> None:
    rates = _rates(Step(warmup_epochs=0.5, every_epochs=1.0, factor=0.5), 30)
    np.testing.assert_allclose(rates[:6], [0.02, 0.04, 0.06, 0.08, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(rates[[9, 10, 19, 20, 29]], [0.1, 0.05, 0.05, 0.025, 0.025], rtol=1e-5)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), Constant(), OneCycle(), Step(every_epochs=0.5), Plateau()])
def test_a_schedule_gives_one_step_or_many_eager_or_compiled(schedule) -> None:
    rate = make_schedule(schedule, 0.1, 25, 10)
    table = rate_table(schedule, 0.1, 25, 10)
    assert table.shape == (25,)
    assert table.dtype == np.float32
    one = jax.jit(rate)
    for step in (0, 4, 5, 24):
        assert float(rate(step)) == pytest.approx(table[step], rel=1e-5)
        assert float(one(jnp.int32(step))) == pytest.approx(table[step], rel=1e-5)


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_plateau_is_torchs(patience: int) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(patience)
    scores = np.round(np.minimum(np.arange(60) / 20, 1) + generator.normal(0, 0.05, 60), 2)
    scores[7] = np.nan
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0, eps=0
    )
    factors = set()
    for seen, score in enumerate(scores, 1):
        theirs.step(score)
        factor = plateau_factor(Plateau(patience=patience, factor=0.5), scores[:seen].tolist())
        assert factor == optimizer.param_groups[0]["lr"], seen
        factors.add(factor)
    assert len(factors) > 3


def test_plateau_waits_for_its_patience_and_then_begins_anew() -> None:
    schedule = Plateau(patience=2, factor=0.1)
    scores = [0.5, 0.5, 0.4, 0.5, 0.5, 0.5, 0.5, 0.6]
    factors = [plateau_factor(schedule, scores[:seen]) for seen in range(len(scores) + 1)]
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-12)


def test_a_run_that_asks_again_gets_the_table_it_had() -> None:
    first, again = (rate_table(Cosine(warmup_epochs=1), 0.1, 25, 10) for _ in range(2))
    assert first is again
    assert not first.flags.writeable
    assert rate_table(Cosine(warmup_epochs=1), 0.2, 25, 10)[9] == 2 * first[9]
