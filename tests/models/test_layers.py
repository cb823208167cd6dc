"""Each layer against torch's, in float64."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models.attention import EfficientChannelAttention, SqueezeExcite
from jaxtl.models.layers import ACTIVATIONS, BatchNorm, Conv, Dropout, DropPath, GroupNorm, Linear, Stack
from jaxtl.models.pooling import AvgPool, BlurPool, MaxPool, SamePool2x2, global_average
from jaxtl.pretrained.names import to_flax, torch_name
from jaxtl.trees import flatten, unflatten

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def with_weights_of(layer: nnx.Module, reference) -> nnx.Module:
    """Our layer, holding the numbers of a torch module in float64."""
    state = reference.double().state_dict()
    graph, variables = nnx.split(layer)
    paths = flatten(nnx.to_pure_dict(variables))
    arrays = {path: jnp.asarray(to_flax(path, state[torch_name(path)].numpy()).copy()) for path in paths}
    assert {path: array.shape for path, array in arrays.items()} == {path: leaf.shape for path, leaf in paths.items()}
    return nnx.merge(graph, unflatten(arrays))


def assert_same(layer, reference, height: int = 9, width: int = 10, channels: int = 8, tolerance=1e-10) -> None:
    """Outputs agree, and so do the gradients with respect to the input."""
    x = np.random.default_rng(0).standard_normal((2, channels, height, width))
    theirs_in = torch.from_numpy(x).requires_grad_()
    theirs = reference(theirs_in)
    weights = np.random.default_rng(1).standard_normal(theirs.shape)
    (theirs * torch.from_numpy(weights)).sum().backward()

    @jax.jit
    def value_and_gradient(x, weights):
        y, pullback = jax.vjp(layer, x)
        return y, pullback(weights)[0]

    ours = value_and_gradient(x.transpose(0, 2, 3, 1), weights.transpose(0, 2, 3, 1))
    for array, expected in zip(ours, (theirs.detach().numpy(), theirs_in.grad.numpy()), strict=True):
        assert array.dtype == jnp.float64
        np.testing.assert_allclose(array.transpose(0, 3, 1, 2), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": 7, "padding": 3, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4},
        {"kernel_size": 3, "padding": 1, "groups": 8, "stride": 2},
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "groups": 2},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 2, "stride": 2},
    ],
    ids=str,
)
def test_conv(options: dict) -> None:
    reference = torch.nn.Conv2d(8, 16, **options)
    assert_same(with_weights_of(Conv(8, 16, **options), reference), reference)


def test_conv_says_what_is_wrong_with_its_input() -> None:
    with pytest.raises(InputError, match=r"of 8 channels got an array of shape \(1, 3, 5, 5\)"):
        with_weights_of(Conv(8, 4, 1), torch.nn.Conv2d(8, 4, 1))(jnp.ones((1, 3, 5, 5)))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    reference = torch.nn.Linear(8, 5, bias=bias).double()
    x = np.random.default_rng(0).standard_normal((3, 8))
    ours = with_weights_of(Linear(8, 5, bias=bias), reference)(jnp.asarray(x))
    np.testing.assert_allclose(ours, reference(torch.from_numpy(x)).detach().numpy(), rtol=1e-12, atol=1e-12)


def randomised_norm(reference):
    generator = torch.Generator().manual_seed(0)
    for name, tensor in reference.state_dict().items():
        if name != "num_batches_tracked":
            tensor.uniform_(0.5, 1.5, generator=generator)
    return reference


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_batch_norm_with_stored_statistics(eps: float) -> None:
    reference = randomised_norm(torch.nn.BatchNorm2d(8, eps=eps)).eval()
    layer = with_weights_of(BatchNorm(8, eps=eps), reference)
    assert_same(layer, reference)
    np.testing.assert_array_equal(layer.mean[...], reference.running_mean.numpy())


@pytest.mark.parametrize(("momentum", "size"), [(0.1, (9, 10)), (0.01, (1, 1))])
def test_batch_norm_with_batch_statistics_stores_what_torch_stores(momentum: float, size: tuple[int, int]) -> None:
    reference = randomised_norm(torch.nn.BatchNorm2d(8, momentum=momentum)).train()
    layer = nnx.view(with_weights_of(BatchNorm(8, momentum=momentum), reference), use_running_average=False)
    graph, variables = nnx.split(layer)
    variables = nnx.to_pure_dict(variables)

    def pure(x):
        merged = nnx.merge(graph, variables)
        return merged(x)

    for _ in range(2):
        layer(jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, *size)).transpose(0, 2, 3, 1)))
    assert_same(pure, reference, *size)
    assert_same(pure, reference, *size)
    np.testing.assert_allclose(layer.mean[...], reference.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(layer.var[...], reference.running_var.numpy(), rtol=1e-12)


def test_batch_norm_keeps_small_variances_on_large_means() -> None:
    x = 1000 + np.random.default_rng(0).standard_normal((4, 8, 8, 8)).astype(np.float32)
    layer = with_weights_of(BatchNorm(8, momentum=1.0), torch.nn.BatchNorm2d(8))
    nnx.view(layer, use_running_average=False)(jnp.asarray(x))
    np.testing.assert_allclose(layer.var[...], x.astype(np.float64).var((0, 1, 2), ddof=1), rtol=1e-4)


def test_batch_norm_refuses_statistics_of_one_value() -> None:
    layer = nnx.view(with_weights_of(BatchNorm(8), torch.nn.BatchNorm2d(8)), use_running_average=False)
    with pytest.raises(InputError, match=r"\(1, 1, 1, 8\) and has one value per channel"):
        layer(jnp.ones((1, 1, 1, 8)))


def test_batch_norm_statistics_stay_float32_under_bfloat16() -> None:
    graph, variables = nnx.split(with_weights_of(BatchNorm(8), torch.nn.BatchNorm2d(8)))
    layer = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), nnx.to_pure_dict(variables)))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 5, 5, 8)), jnp.bfloat16)
    assert nnx.view(layer, use_running_average=False)(x).dtype == jnp.bfloat16
    assert layer.mean[...].dtype == layer.var[...].dtype == jnp.float32
    exact = 0.1 * np.asarray(x, np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(layer.mean[...], exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("groups", [2, 8])
def test_group_norm(groups: int) -> None:
    reference = randomised_norm(torch.nn.GroupNorm(groups, 8))
    assert_same(with_weights_of(GroupNorm(8, groups=groups), reference), reference)


POOLS = [
    (kernel, stride, padding, ceil_mode, size)
    for kernel, stride, padding in [(2, None, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0), (3, 3, 1), (2, 3, 0), (5, 2, 2)]
    for ceil_mode, size in itertools.product((False, True), ((9, 10), (5, 8)))
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode", "size"), POOLS)
def test_pools(kernel: int, stride: int | None, padding: int, ceil_mode: bool, size: tuple[int, int]) -> None:
    window = (kernel, stride, padding)
    assert_same(MaxPool(*window, ceil_mode=ceil_mode), torch.nn.MaxPool2d(*window, ceil_mode=ceil_mode), *size)
    for count in (False, True):
        options = {"ceil_mode": ceil_mode, "count_include_pad": count}
        assert_same(AvgPool(*window, **options), torch.nn.AvgPool2d(*window, **options), *size)


def test_same_pool_keeps_the_size() -> None:
    padded = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.AvgPool2d(2, 1))
    assert_same(SamePool2x2(), padded)


def test_global_average() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 3))
    np.testing.assert_allclose(global_average(jnp.asarray(x)), x.mean((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 10), (2, 3)])
def test_blur_pool(stride: int, size: tuple[int, int]) -> None:
    from timm_guest import import_timm

    reference = import_timm().layers.BlurPool2d(8, stride=stride).double()
    assert_same(BlurPool(stride), reference, *size)


@pytest.mark.parametrize("channels", [8, 64, 512])
def test_attention(channels: int) -> None:
    from timm_guest import import_timm

    layers = import_timm().layers
    reference = layers.SEModule(channels)
    assert_same(with_weights_of(SqueezeExcite(channels), reference), reference, channels=channels)
    reference = layers.EcaModule(channels)
    assert_same(with_weights_of(EfficientChannelAttention(channels), reference), reference, channels=channels)


TORCH_ACTIVATIONS = {
    "elu": torch.nn.ELU(),
    "gelu": torch.nn.GELU(),
    "gelu_tanh": torch.nn.GELU("tanh"),
    "hard_sigmoid": torch.nn.Hardsigmoid(),
    "hard_swish": torch.nn.Hardswish(),
    "leaky_relu": torch.nn.LeakyReLU(),
    "mish": torch.nn.Mish(),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": torch.nn.ReLU(),
    "relu6": torch.nn.ReLU6(),
    "sigmoid": torch.nn.Sigmoid(),
    "silu": torch.nn.SiLU(),
    "tanh": torch.nn.Tanh(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    # torch's hard_sigmoid has a gradient of one sixth in float32
    assert_same(lambda x: ACTIVATIONS[name](5 * x), lambda x: TORCH_ACTIVATIONS[name](5 * x), tolerance=1e-7)


@pytest.mark.parametrize("kind", [Dropout, DropPath])
def test_drops_keep_the_expectation(kind) -> None:
    layer, x = kind(0.25), jnp.ones((4000, 3, 3, 2))
    assert layer(x) is x
    training = nnx.view(layer, deterministic=False)
    y = np.asarray(training(x, nnx.Rngs(dropout=0)))
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert abs(y.mean() - 1) < 0.03
    whole_images = (y == y[:, :1, :1, :1]).all()
    assert whole_images == (kind is DropPath)
    assert nnx.view(training, rate=0.0)(x) is x
    assert not np.asarray(nnx.view(training, rate=1.0)(x, nnx.Rngs(0))).any()
    with pytest.raises(InputError, match=rf"{kind.__name__} with rate 0.25 .* no random numbers"):
        training(x)


def test_stack_hands_random_numbers_on() -> None:
    stack = nnx.view(Stack(Dropout(0.5), Stack(Dropout(0.5))), deterministic=False)
    y = np.asarray(stack(jnp.ones((50, 50)), nnx.Rngs(dropout=0)))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert 0.2 < (y > 0).mean() < 0.3  # two independent masks
