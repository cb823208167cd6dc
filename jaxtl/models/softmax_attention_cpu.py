"""Softmax attention on a CPU: as many images at a time as have their weights in the processor's cache."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxtl.backend import several_devices

_AT_ONCE = 2**21  # weights


@jax.custom_vjp
def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Of scaled queries (batch, tokens, heads, width of a head). The gradient computes the weights again."""
    return _forward(query, key, value)[0]


def attend_with_bias(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array) -> jax.Array:
    """The same with a bias (batch, heads, queries, keys), or one that is broadcast to it."""
    scores = _scores(_wide(query), _wide(key)) + bias
    return _outputs(scores, value)[0]


def _forward(query: jax.Array, key: jax.Array, value: jax.Array):
    """Each image's outputs take the place of its queries: outputs of a loop of their own XLA would make room for
    early."""

    def of_some(query: jax.Array, log_total: jax.Array, key: jax.Array, value: jax.Array):
        return _outputs(_scores(_wide(query), _wide(key)), value)

    shape = query.shape[0], query.shape[2], query.shape[1], 1
    total = jnp.zeros(shape, jnp.promote_types(query.dtype, jnp.float32))
    y, log_total = _in_place(of_some, (query, total), (key, value), _images_at_once(query, key, value))
    return y, (query, key, value, log_total)


def _backward(kept, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each image's gradients take the place of what they are the gradients of, likewise. In a single step of the loop
    XLA would find the forward pass's weights again, and keep them until here."""
    query, key, value, log_total = kept
    arrays = query, key, value

    def of_some(*given: jax.Array):
        *heads_last, log_total = given
        query, key, value, gradient = map(_wide, heads_last)
        weights = jnp.exp(_scores(query, key) - log_total)
        for_weights = _scores(gradient, value)
        for_scores = weights * (for_weights - (weights * for_weights).sum(-1, keepdims=True))
        found = for_scores @ key, for_scores.swapaxes(2, 3) @ query, weights.swapaxes(2, 3) @ gradient
        return tuple(_narrow(new, array.dtype) for new, array in zip(found, arrays, strict=True))

    at_once = _images_at_once(*arrays, steps=2)
    return _in_place(of_some, arrays, (jnp.asarray(gradient), log_total), at_once)


attend.defvjp(_forward, _backward)


def _outputs(scores: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs, and the logarithms of the weights' totals. Dividing outputs takes less than dividing weights."""
    top = lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    return _narrow(weights @ _wide(value) / total, value.dtype), top + jnp.log(total)


def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    return query @ key.swapaxes(2, 3)


def _wide(x: jax.Array) -> jax.Array:
    """(batch, tokens, heads, width) to (batch, heads, tokens, width), of which XLA's products are the faster ones, and
    half precision to float32, for the same reason."""
    return x.transpose(0, 2, 1, 3).astype(jnp.promote_types(x.dtype, jnp.float32))


def _narrow(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return x.astype(dtype).transpose(0, 2, 1, 3)


def _in_place(function, changed: tuple[jax.Array, ...], fixed: tuple[jax.Array, ...], at_once: int):
    """``function(*changed, *fixed)`` gives arrays like those that are changed, here for some images at a time."""
    images = changed[0].shape[0]
    if at_once == images:
        return function(*changed, *fixed)

    def step(i: jax.Array, changed: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        start = i * at_once
        found = function(*(lax.dynamic_slice_in_dim(array, start, at_once) for array in (*changed, *fixed)))
        return tuple(
            lax.dynamic_update_slice_in_dim(array, new, start, 0) for array, new in zip(changed, found, strict=True)
        )

    return lax.fori_loop(0, images // at_once, step, changed)


def _images_at_once(query: jax.Array, key: jax.Array, value: jax.Array, steps: int = 1) -> int:
    """All of them where there are none or their number is not known, and on several devices, among which they may be
    divided."""
    images, queries, heads, width = query.shape
    outputs_fit = value.shape[3] == width and value.dtype == query.dtype
    if not isinstance(images, int) or images == 0 or several_devices() or not outputs_fit:
        return images
    most = min(_AT_ONCE // (heads * queries * key.shape[1]), images // steps)
    return max(n for n in range(1, max(1, most) + 1) if images % n == 0)
