"""Convolutions that XLA hands to oneDNN on a CPU: their values, where they are used, and what is not kept of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import shared_out
from flax import nnx

from jaxtl import jitted
from jaxtl.jitted import jit, nothing_kept
from jaxtl.models import convolution, convolution_onednn, onednn, product
from jaxtl.models.convolution import conv
from jaxtl.models.convolution_onednn import by_onednn
from jaxtl.models.general_convolution import general
from jaxtl.models.layers import Conv, Stack

pytestmark = pytest.mark.skipif(not onednn.has_onednn(), reason="XLA does not reach oneDNN here")
CALL = "__onednn$convolution"


@pytest.fixture
def small_ones_too(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "WORK", 0)
    monkeypatch.setattr(convolution, "KERNEL", 0)


def _lowered(function, *given) -> str:
    return jit(function).lower(*given).as_text()


PLACES = [
    ((9, 7), (3, 3), 1, ((1, 1), (1, 1)), 1),
    ((8, 9), (3, 5), 1, ((0, 2), (1, 0)), 1),
    ((9, 8), (3, 3), 2, ((1, 1), (1, 1)), 1),
    ((12, 11), (7, 7), 2, ((3, 3), (3, 3)), 1),
    ((7, 8), (1, 1), 2, ((0, 0), (0, 0)), 1),
    ((11, 10), (2, 3), 3, ((0, 1), (2, 0)), 1),
    ((9, 8), (3, 3), 1, ((2, 2), (2, 2)), 2),
    ((9, 9), (3, 3), 2, ((2, 2), (2, 2)), 2),
    ((6, 6), (1, 1), 1, ((1, 1), (2, 2)), 1),
    ((6, 7), (2, 2), 1, ((3, 2), (2, 3)), 1),
]
GROUPS = [(1, 5, 6), (2, 6, 8)]  # and input and output channels
AS_MANY_GROUPS_AS_OUTPUTS = [(3, 6, 3), (6, 6, 6)]
CASES = [*itertools.product(PLACES, GROUPS), *itertools.product(PLACES[1:3], AS_MANY_GROUPS_AS_OUTPUTS)]


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize(("places", "channels"), shared_out(CASES, 2), ids=str)
def test_values_and_gradients(places, channels, dtype) -> None:
    if dtype == jnp.bfloat16 and not onednn.multiplies_bfloat16():
        pytest.skip("this processor has no products of bfloat16")
    (size, kernel, stride, pads, dilation), (groups, inputs, outputs) = places, channels
    generator = np.random.default_rng(0)
    x = generator.standard_normal((8, *size, inputs))
    filters = generator.standard_normal((*kernel, inputs // groups, outputs))

    def run(convolve, x, kernel):
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, pads, dilation, groups), x, kernel)
        return y, *pull(jnp.sin(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))

    with jax.enable_x64(True), nothing_kept():
        exact = run(general, x, filters)
        found = jit(lambda *given: run(by_onednn, *given))(x.astype(dtype), filters.astype(dtype))
    tolerance = 1e-5 if dtype == np.float32 else 2e-2
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(np.float64(ours), theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(("size", "stride"), [((20, 21), 1), ((21, 20), 2)], ids=str)
def test_the_gradient_of_a_kernel_from_many_images_with_large_maps(size, stride) -> None:
    generator = np.random.default_rng(0)
    shape = (3, 3, convolution_onednn.FEW, 5)
    x = generator.standard_normal((convolution_onednn.IMAGES, *size, shape[2]), np.float32)
    pads = ((1, 1), (1, 1))

    def of_kernel(convolve, x):
        kernel = jnp.ones(shape, x.dtype)
        return jax.grad(lambda kernel: jnp.sin(convolve(x, kernel, stride, pads, 1, 1)).sum())(kernel)

    with jax.enable_x64(True):
        exact = of_kernel(general, np.float64(x))
        assert _lowered(lambda x: of_kernel(by_onednn, x), x).count(CALL) == 2
        assert _lowered(lambda x: of_kernel(by_onednn, x), x[1:]).count(CALL) == 1
        with nothing_kept():
            found = jit(lambda x: of_kernel(by_onednn, x))(x)
    np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())


@pytest.mark.skipif(not onednn.multiplies_bfloat16(), reason="this processor has no products of bfloat16")
def test_products_of_bfloat16_and_their_gradients() -> None:
    generator = np.random.default_rng(0)
    x, kernel = generator.standard_normal((8, 7, 5, 6)), generator.standard_normal((6, 9))

    def run(multiply, x, kernel):
        y, pull = jax.vjp(multiply, x, kernel)
        return y, *pull(jnp.sin(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))

    with jax.enable_x64(True), nothing_kept():
        exact = run(jnp.matmul, x, kernel)
        found = jit(lambda *given: run(product.by_onednn, *given))(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours.dtype, ours.shape) == (jnp.bfloat16, theirs.shape)
        np.testing.assert_allclose(np.float64(ours), theirs, atol=2e-2 * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16], ids=lambda dtype: np.dtype(dtype).name)
def test_only_products_of_bfloat16_are_its(dtype) -> None:
    x, kernel = jnp.zeros((8, 64, 512), dtype), jnp.zeros((512, 512), dtype)
    taken = "__onednn$matmul" in _lowered(jax.grad(lambda kernel: product.product(x, kernel).sum()), kernel)
    assert taken == (dtype == jnp.bfloat16 and onednn.multiplies_bfloat16())
    assert "__onednn" not in _lowered(product.product, x[:, 0], kernel)  # a head


@pytest.mark.usefixtures("small_ones_too")
def test_many_images_are_convolved_by_it() -> None:
    x, kernel = np.ones((onednn.MANY, 8, 8, 4), np.float32), np.ones((3, 3, 4, 4), np.float32)
    gradients = jax.grad(lambda x, kernel: conv(x, kernel, padding=1).sum(), argnums=(0, 1))
    assert _lowered(gradients, x, kernel).count(CALL) == 1  # a sum's gradient needs no forward
    assert _lowered(lambda x, kernel: conv(x, kernel, padding=1), x, kernel).count(CALL) == 1


def test_large_ones_are_and_those_in_groups() -> None:
    shapes = {
        "of a ResNet-18": ((8, 28, 28, 128), (3, 3, 128, 128), 1),
        "of fewer images": ((7, 28, 28, 128), (3, 3, 128, 128), 1),
        "of a ResNet for CIFAR": ((32, 32, 32, 16), (3, 3, 16, 16), 1),
        "of a small map": ((8, 7, 7, 64), (3, 3, 64, 64), 1),
        "in groups": ((8, 7, 7, 64), (3, 3, 4, 64), 16),
        "depthwise": ((8, 112, 112, 32), (3, 3, 1, 32), 32),
    }
    taken = {
        name: CALL in jit(partial(conv, padding=1, groups=groups)).lower(*map(jnp.zeros, (x, kernel))).as_text()
        for name, (x, kernel, groups) in shapes.items()
    }
    assert {name for name, there in taken.items() if there} == {"of a ResNet-18", "in groups"}


@pytest.mark.usefixtures("small_ones_too")
@pytest.mark.parametrize(
    "given",
    [
        (np.ones((onednn.MANY - 1, 8, 8, 4), np.float32), np.ones((3, 3, 4, 4), np.float32)),
        (np.ones((onednn.MANY, 8, 8, 4), np.float16), np.ones((3, 3, 4, 4), np.float16)),
        (np.ones((onednn.MANY, 8, 8, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)),
    ],
    ids=["few images", "float16", "pointwise"],
)
def test_others_are_not(given) -> None:
    assert CALL not in _lowered(conv, *given)


@pytest.mark.usefixtures("small_ones_too")
def test_a_jit_of_ones_own_is_not_compiled_with_it_even_if_jaxtl_traced_the_function_first() -> None:
    x, kernel = np.ones((onednn.MANY, 8, 8, 4), np.float32), np.ones((3, 3, 4, 4), np.float32)
    inner = jit(lambda x: conv(x, kernel))
    assert CALL in _lowered(lambda x: inner(x) + 1, x)
    assert CALL not in jax.jit(lambda x: inner(x) + 1).lower(x).as_text()
    assert CALL in _lowered(lambda x: inner(x) + 2, x)


@pytest.mark.usefixtures("small_ones_too")
def test_blocks_that_are_computed_again_are_those_of_their_program() -> None:
    stack = Stack(Conv(4, 4, 3), Conv(4, 4, 3))
    stack.remat = True
    graph, params = nnx.split(stack)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    x = np.ones((onednn.MANY, 8, 8, 4), np.float32)

    def of_blocks(reduce):
        return lambda params, x: reduce(nnx.merge(graph, params)(x))

    for reduce in (jnp.sum, jnp.mean):
        assert CALL not in jax.jit(of_blocks(reduce)).lower(params, x).as_text()
        program = jit(of_blocks(reduce))
        assert CALL in program.lower(params, x).as_text()
        assert not program._kept
    with mock.patch.object(Conv, "__call__", autospec=True) as traced:
        traced.side_effect = lambda conv, x, rngs=None: x
        jit(of_blocks(jnp.max)).lower(params, x)
    assert traced.call_count == 1  # blocks alike are traced once


@pytest.mark.usefixtures("small_ones_too")
def test_it_maps_over_an_axis() -> None:
    x, kernel = np.ones((2, onednn.MANY, 4, 4, 3), np.float32), np.ones((3, 3, 3, 2), np.float32)
    assert np.all(jit(jax.vmap(lambda x: conv(x, kernel)))(x) == 27)


@pytest.mark.usefixtures("small_ones_too")
def test_where_it_cannot_be_reached_xla_convolves() -> None:
    onednn._is_reached.cache_clear()
    try:
        with mock.patch.object(onednn.jax.ffi, "ffi_call", side_effect=jax.errors.JaxRuntimeError("no such target")):
            assert not onednn.has_onednn()
            assert CALL not in _lowered(conv, np.ones((8, 8, 8, 4), np.float32), np.ones((3, 3, 4, 4), np.float32))
    finally:
        onednn._is_reached.cache_clear()
    with mock.patch.object(onednn, "CHECKED", ()):
        assert not onednn.has_onednn()
    with mock.patch.object(onednn.platform, "machine", return_value="arm64"):
        assert not onednn.has_onednn()
    with mock.patch.object(onednn, "several_devices", return_value=True):
        assert not onednn.has_onednn()


KEPT = """
import sys, warnings, pathlib
warnings.simplefilter("error")
import jax, numpy as np
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from jaxtl.jitted import jit
from jaxtl.models import convolution
from jaxtl.models.convolution import conv
convolution.WORK = convolution.KERNEL = 0
kernel = np.ones((3, 3, 4, 4), np.float32)
def convolved(x): return conv(x, kernel)
def lowered(x): return conv(x, kernel) + 1
many, few = (np.ones((count, 8, 8, 4), np.float32) for count in (8, 2))
function = jit(convolved)
function(many)
function(few)
program = jit(lowered)
program.lower(many).compile()(many)
program(np.ones((9, 8, 8, 4), np.float32))
def other(x): return x * 3
jit(other)(many)
assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0
print(sorted({file.name.partition("-")[0] for file in pathlib.Path(sys.argv[1]).iterdir()} & {
    "jit_convolved", "jit_lowered", "jit_other"}))
"""


def test_what_holds_it_is_not_kept_on_disk_and_the_rest_is(tmp_path) -> None:
    """JAX would try to write it, and warn of ``std::bad_alloc``."""
    found = subprocess.run([sys.executable, "-c", KEPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "['jit_other']\n"


@pytest.mark.usefixtures("small_ones_too")
def test_a_trace_that_ends_later_does_not_forget_what_is_not_kept() -> None:
    kernel = np.ones((3, 3, 4, 4), np.float32)
    many, few = (jax.ShapeDtypeStruct((count, 8, 8, 4), np.float32) for count in (onednn.MANY, 2))

    def convolved(x):
        if x.shape == few.shape:
            program.lower(many)
        return conv(x, kernel)

    program = jit(convolved)
    program.lower(few)
    with mock.patch.object(jitted, "nothing_kept", wraps=nothing_kept) as forbidden:
        lowered = program.lower(many)
        forbidden.reset_mock()
        lowered.compile()
    assert forbidden.called


def test_nothing_is_kept_until_the_last_one_is_done() -> None:
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    with nothing_kept():
        with nothing_kept():
            pass
        assert jax.config.jax_persistent_cache_min_compile_time_secs == float("inf")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before
