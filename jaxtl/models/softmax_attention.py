"""Softmax attention, in the form that suits the device."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxtl.backend import from_ampere_on, on_cpu, on_gpu
from jaxtl.models import softmax_attention_cpu


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None, scale: float | None = None
) -> jax.Array:
    """Softmax attention on arrays (batch, tokens, heads, width of a head); the weights are never below float32.

    On a CPU the outputs are divided by the total of the weights, and not the weights. Without a bias the gradient
    computes the weights again instead of keeping them, as FlashAttention does (Dao et al.,
    https://arxiv.org/abs/2205.14135); so does cuDNN's attention, which a GPU takes for half-precision arrays with heads
    of one width. `jax.grad` works through both of them and `jax.jvp` does not.

    Args:
        bias: added to the weights before the softmax, broadcast to (batch, heads, queries, keys).
        scale: of the products; one over the root of the head's width when not given.

    Vaswani et al., https://arxiv.org/abs/1706.03762.

    >>> attend(jnp.ones((1, 3, 2, 4)), jnp.ones((1, 5, 2, 4)), jnp.ones((1, 5, 2, 4))).shape
    (1, 3, 2, 4)
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if on_cpu():
        if bias is not None:
            return softmax_attention_cpu.attend_with_bias(query * scale, key, value, bias)
        return softmax_attention_cpu.attend(query * scale, key, value)
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
    lengths = [jnp.full(array.shape[0], array.shape[1], jnp.int32) if any(odd) else None for array in (query, key)]
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
    """Whether cuDNN's attention takes them: half precision, heads of one width, up to 128 channels in eights, Ampere or
    newer."""
    half = all(array.dtype in (jnp.bfloat16, jnp.float16) for array in arrays)
    width, *others = {array.shape[-1] for array in arrays}
    return half and not others and width % 8 == 0 and width <= 128 and from_ampere_on()


def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    wide = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)
