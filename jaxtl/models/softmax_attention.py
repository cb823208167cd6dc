"""Softmax attention, and a gradient that does not keep its weights."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxtl.backend import from_ampere_on, on_cpu, on_gpu


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None, scale: float | None = None
) -> jax.Array:
    """Softmax attention on arrays (batch, tokens, heads, width of a head); the weights are never below float32.

    On a CPU, and without a bias, the gradient computes the weights again instead of keeping them, as FlashAttention
    does (Dao et al., https://arxiv.org/abs/2205.14135); so does cuDNN's attention, which a GPU takes for half-precision
    arrays. `jax.grad` works through both of them and `jax.jvp` does not.

    Args:
        bias: added to the weights before the softmax, broadcast to (batch, heads, queries, keys).
        scale: of the products; one over the root of the head's width when not given.

    Vaswani et al., https://arxiv.org/abs/1706.03762.

    >>> attend(jnp.ones((1, 3, 2, 4)), jnp.ones((1, 5, 2, 4)), jnp.ones((1, 5, 2, 4))).shape
    (1, 3, 2, 4)
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if bias is None and on_cpu() and query.shape[2] == key.shape[2] == value.shape[2]:
        return _attend(query * scale, key, value)
    if bias is None and on_gpu() and _fit_cudnn(query, key, value):
        return _by_cudnn(query, key, value, scale)
    scores = _scores(query * scale, key)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def _by_cudnn(query: jax.Array, key: jax.Array, value: jax.Array, scale: float) -> jax.Array:
    """cuDNN takes even numbers of tokens: another one at the end that counts for nothing makes them so."""
    odd = [array.shape[1] % 2 for array in (query, key)]
    lengths = [jnp.full(len(array), array.shape[1], jnp.int32) if any(odd) else None for array in (query, key)]
    query, key, value = (
        jnp.pad(array, ((0, 0), (0, more), (0, 0), (0, 0)))
        for array, more in zip((query, key, value), (*odd, odd[1]), strict=True)
    )
    y = jax.nn.dot_product_attention(
        query,
        key,
        value,
        scale=scale,
        query_seq_lengths=lengths[0],
        key_value_seq_lengths=lengths[1],
        implementation="cudnn",
    )
    return y[:, : y.shape[1] - odd[0]]


def _fit_cudnn(*arrays: jax.Array) -> bool:
    """Whether cuDNN's attention takes them: half precision, heads of up to 128 channels in eights, Ampere or newer."""
    half = all(array.dtype in (jnp.bfloat16, jnp.float16) for array in arrays)
    return half and all(array.shape[-1] % 8 == 0 and array.shape[-1] <= 128 for array in arrays) and from_ampere_on()


def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    wide = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)


@jax.custom_vjp
def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return _forward(query, key, value)[0]


def _forward(query: jax.Array, key: jax.Array, value: jax.Array):
    scores = _scores(query, key)
    top = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    y = jnp.einsum("bhqk,bkhd->bqhd", (weights / total).astype(value.dtype), value)
    return y, (query, key, value, top + jnp.log(total))


def _backward(kept, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image by image, whose weights stay in the processor's cache. Each image's gradients take the place of what they
    are the gradients of; outputs of the loop of their own XLA would make room for early and keep until here."""
    query, key, value, log_total = kept
    gradient = jnp.asarray(gradient)
    product = partial(jnp.einsum, preferred_element_type=log_total.dtype)

    def of_image(i: jax.Array, arrays: tuple[jax.Array, jax.Array, jax.Array]):
        query, key, value = (array[i] for array in arrays)
        weights = jnp.exp(product("qhd,khd->hqk", query, key) - log_total[i])
        for_weights = product("qhd,khd->hqk", gradient[i], value)
        mean = (weights * for_weights).sum(-1, keepdims=True)
        for_scores = (weights * (for_weights - mean)).astype(query.dtype)
        gradients = (
            jnp.einsum("hqk,khd->qhd", for_scores, key),
            jnp.einsum("hqk,qhd->khd", for_scores, query),
            jnp.einsum("hqk,qhd->khd", weights.astype(value.dtype), gradient[i]),
        )
        return tuple(array.at[i].set(new) for array, new in zip(arrays, gradients, strict=True))

    return jax.lax.fori_loop(0, len(query), of_image, (query, key, value))


_attend.defvjp(_forward, _backward)
