"""Multinomial logistic regression on fixed features, for several strengths of regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NEWTON_STEPS = 40
_CG_STEPS = 60
_CG_TOLERANCE = 0.05
_TOLERANCE = 5e-7
_STEP_LENGTHS = tuple(0.5**power for power in range(8))


def fit_all(
    features: np.ndarray,
    labels: np.ndarray,
    strengths: Sequence[float],
    label_smoothing: float,
    class_weights: np.ndarray,
    counting: np.ndarray,
    left_out: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels (S, D, K) and biases (S, K) for features (N, D) as they are, float64, one for each strength.

    Strengths (S,) go from the weakest to the strongest; rows that are True in ``left_out`` (N,) do not count. Each
    class's term of the cross entropy is weighted (K,), and so is by its class what an image counts (K,).

    The features are standardised and turned to their principal axes, which changes neither fit nor penalty: there each
    column's curvature can be told in advance, and with fewer images than features there are fewer columns. Shapes do
    not depend on what is left out: one compiled solver serves the choice of the strength and the fit after it.
    """
    kept = features[~left_out]
    mean, scale = kept.mean(0, dtype=np.float64), kept.std(0, dtype=np.float64)
    scale[scale <= 1e-7 * np.maximum(1, abs(mean))] = np.inf  # constant: its kernel is 0
    standard = np.where(left_out[:, None], 0.0, (features - mean) / scale)
    variances, axes = _principal_axes(standard, len(kept))
    smoothed = (1 - label_smoothing) * np.eye(len(counting))[labels] + label_smoothing / len(counting)
    targets = smoothed * class_weights
    sums = targets.sum(1)
    weights = np.where(left_out, 0.0, sums * counting[labels])
    inputs = (standard @ axes, targets / sums[:, None], weights / weights.sum(), variances, np.asarray(strengths[::-1]))
    with jax.default_matmul_precision("highest"):  # a slope of TF32's products never gets as flat as it is to
        kernels, biases = jax.device_get(_solve(*(jnp.asarray(array, jnp.float32) for array in inputs)))
    kernels = axes @ kernels[::-1].astype(np.float64) / scale[:, None]
    biases = biases[::-1] - np.einsum("d,sdk->sk", mean, kernels)
    return kernels, biases - biases.mean(1, keepdims=True)


def _principal_axes(standard: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (R,) and directions (D, R), R the lesser of rows and columns; 0 where there is only rounding."""
    rows, width = standard.shape
    if width <= rows:
        variances, axes = np.linalg.eigh(standard.T @ standard / count)
    else:
        variances, sides = np.linalg.eigh(standard @ standard.T / count)
        axes = standard.T @ sides / np.sqrt(count * np.maximum(variances, 1e-30))
    kept = variances > 1e-10 * max(variances.max(), 1e-20)
    return np.where(kept, variances, 0.0), np.where(kept, axes, 0.0)


@jax.jit
def _solve(
    inputs: jax.Array, targets: jax.Array, weights: jax.Array, variances: jax.Array, strengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Newton's method with conjugate gradients, from the strongest penalty to the weakest, each from the one before.

    Inputs (N, R) are uncorrelated, with mean 0; the weights (N,) of the images add up to 1. Gives (S, R, K) and (S, K).
    """

    def slope_of(kernel: jax.Array, error: jax.Array, strength: jax.Array) -> tuple[jax.Array, jax.Array]:
        error = weights[:, None] * error
        return inputs.T @ error + strength * kernel, error.sum(0)

    def size(slope: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.maximum(abs(slope[0]).max(), abs(slope[1]).max())

    def newton(carry: Any) -> Any:
        kernel, bias, slope, strength, number = carry
        logits = inputs @ kernel + bias
        chance = jax.nn.softmax(logits)

        def curvature(direction: Any) -> Any:
            change = inputs @ direction[0] + direction[1]
            change = chance * (change - (chance * change).sum(1, keepdims=True))
            return slope_of(direction[0], change, strength)

        typical = weights @ (chance * (1 - chance))

        def about_inverse(direction: Any) -> Any:
            return direction[0] / (variances[:, None] * typical + strength), direction[1] / (typical + 1e-6)

        downhill = jax.tree.map(jnp.negative, slope)
        step, _ = jax.scipy.sparse.linalg.cg(curvature, downhill, tol=_CG_TOLERANCE, maxiter=_CG_STEPS, M=about_inverse)
        change = inputs @ step[0] + step[1]

        def objective(length: jax.Array) -> jax.Array:
            cross_entropy = -weights @ (targets * jax.nn.log_softmax(logits + length * change)).sum(1)
            return cross_entropy + 0.5 * strength * jnp.sum((kernel + length * step[0]) ** 2)

        lengths = jnp.asarray(_STEP_LENGTHS)
        length = lengths[jnp.argmin(jax.vmap(objective)(lengths))]
        kernel, bias = kernel + length * step[0], bias + length * step[1]
        error = jax.nn.softmax(inputs @ kernel + bias) - targets
        return kernel, bias, slope_of(kernel, error, strength), strength, number + 1

    def for_one(start: tuple[jax.Array, jax.Array], strength: jax.Array) -> Any:
        kernel, bias = start
        slope = slope_of(kernel, jax.nn.softmax(inputs @ kernel + bias) - targets, strength)
        kernel, bias, *_ = jax.lax.while_loop(
            lambda carry: (size(carry[2]) > enough) & (carry[4] < _NEWTON_STEPS),
            newton,
            (kernel, bias, slope, strength, 0),
        )
        return (kernel, bias), (kernel, bias)

    classes = targets.shape[1]
    nothing = jnp.zeros((inputs.shape[1], classes)), jnp.zeros(classes)
    enough = _TOLERANCE * size(slope_of(nothing[0], 1 / classes - targets, strengths[0]))
    return jax.lax.scan(for_one, nothing, strengths)[1]
