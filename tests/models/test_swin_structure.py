"""What only Swin transformers have: windows, their biases, and weights that move to other windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from families import rotating
from timm_guest import import_timm

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph
from jaxtl.models.swin_transformer_v2 import log_coordinates
from jaxtl.models.windows import resize_bias_table

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")  # while timm resizes

V1, V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"
TINY = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}


@pytest.mark.parametrize(
    ("old", "new"), [(7, (12, 12)), (7, (4, 4)), (7, (8, 5)), (2, (7, 7)), (1, (3, 3)), (3, (1, 2))]
)
def test_tables_of_relative_positions_are_resized_as_in_timm(old: int, new: tuple[int, int]) -> None:
    import_timm()
    import torch
    from timm.layers import resize_rel_pos_bias_table

    for extra in (0, 3):
        table = np.random.default_rng(0).standard_normal(((2 * old - 1) ** 2 + extra, 4)).astype(np.float32)
        shape = ((2 * new[0] - 1) * (2 * new[1] - 1) + extra, 4)
        expected = resize_rel_pos_bias_table(torch.from_numpy(table), new, shape).numpy()
        ours = resize_bias_table(table, new, extra)
        assert ours.shape == expected.shape
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_only_tables_of_square_windows_can_be_resized() -> None:
    with pytest.raises(InputError, match="15 relative positions"):
        resize_bias_table(np.zeros((15, 2), np.float32), (4, 4))


@pytest.mark.parametrize(
    "new", [{"img_size": 48}, {"img_size": 96, "window_size": 5}, {"img_size": 24, "window_size": 9, "patch_size": 2}]
)
def test_weights_move_to_other_images_and_windows_as_in_timm(new: dict) -> None:
    import torch
    from timm.models.swin_transformer import checkpoint_filter_fn

    reference = torch_reference.randomised(V1, 64, **TINY, img_size=64, num_classes=5)
    moved = torch_reference.randomised(V1, **TINY, **new, num_classes=5)
    moved.load_state_dict(checkpoint_filter_fn(reference.state_dict(), moved))
    model = jaxtl.from_torch(reference, V1, **TINY, **new)
    images = torch_reference.images(new["img_size"])
    with torch.no_grad():
        expected = moved(torch_reference.torch_images(images))
    assert torch_reference.difference(model(images), expected) < 1e-4


@pytest.mark.parametrize("name", [V1, V2])
def test_dynamic_size(name: str) -> None:
    import torch

    options = {**TINY, "img_size": 64, "dynamic_img_size": True, "num_classes": 5}
    reference = torch_reference.randomised(name, **options)
    network = torch_reference.ported(name, reference, **options)
    for size in (64, 100):
        images = torch_reference.images(size)
        with torch.no_grad():
            expected = reference(torch_reference.torch_images(images))
        assert torch_reference.difference(torch_reference.outputs(network, images), expected) < 1e-4


def test_the_scale_of_cosine_attention_has_a_limit() -> None:
    import torch

    options = {**TINY, "img_size": 32, "num_classes": 5}
    reference = torch_reference.randomised(V2, **options)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name.endswith("logit_scale"):
                parameter.fill_(7.0)
        images = torch_reference.images(32)
        expected = reference(torch_reference.torch_images(images))
    ours = torch_reference.outputs(torch_reference.ported(V2, reference, **options), images)
    assert torch_reference.difference(ours, expected) < 1e-4


@pytest.mark.parametrize("window", [(1, 1), (8, 8), (5, 7), (24, 24)])
@pytest.mark.parametrize("pretrained", [(0, 0), (12, 12), (1, 1)])
def test_logarithmic_coordinates_are_timms(window: tuple[int, int], pretrained: tuple[int, int]) -> None:
    import_timm()
    from timm.models.swin_transformer_v2 import WindowAttention

    expected = WindowAttention(4, window, 2, pretrained_window_size=pretrained).relative_coords_table.numpy()
    ours = log_coordinates(window, pretrained)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected.reshape(-1, 2), rtol=3e-7)


@pytest.mark.parametrize("name", rotating([V1, V2], 1))
def test_gradients_are_finite_where_windows_stick_out_of_the_map(name: str) -> None:
    graph = Graph(name, **TINY, img_size=32, window_size=3, num_classes=2)
    params = {path: jnp.asarray(leaf) for path, leaf in graph.initialise(graph.params, 0).items()}
    images = jnp.asarray(torch_reference.images(32))
    gradients = jax.jit(jax.grad(lambda p: graph.apply(jaxtl.trees.unflatten(p), {}, images)[0].sum()))(params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in gradients.values())


def test_the_final_norm_goes_with_the_last_stage() -> None:
    whole, cut = Graph(V1), Graph(V1, until="layers.2")
    assert whole.stage_of("norm.scale") == "layers.3"
    assert whole.depth_of("norm.scale") == 1
    assert "norm.scale" not in cut.params
    assert cut.network.num_features == 384
    assert whole.stage_of("layers.1.downsample.norm.scale") == "layers.1"
    assert whole.depth_of("layers.1.downsample.norm.scale") == whole.depth_of("layers.1.blocks.0.norm1.scale")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": (7, 7, 7)}, "each of 4 stages"),
        ({"window_size": 0}, "each of 4 stages"),
        ({"img_size": 3}, "less than one patch"),
        ({"depths": (2, 2)}, "num_heads 4"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.build(V1, **options)
    with pytest.raises(InputError, match="one window for each of 4"):
        registry.build(V2, pretrained_window_sizes=(12,))


def test_images_of_another_size_are_refused() -> None:
    graph = Graph(V1)
    with pytest.raises(InputError, match="img_size=64"):
        jax.eval_shape(graph.features, jaxtl.trees.unflatten(graph.params), {}, jnp.zeros((1, 64, 64, 3)))
