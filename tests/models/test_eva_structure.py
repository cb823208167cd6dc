"""What is special about EVA's relatives: rotary positions, prefix tokens, and position embeddings of other sizes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from families import rotating

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph
from jaxtl.models.rope import AxialRope, rotate

TINY = {"embed_dim": 32, "num_heads": 4, "depth": 2, "num_classes": 3}


@pytest.mark.parametrize(
    ("name", "options"),
    rotating(
        [
            ("eva02_tiny_patch14_224", {"img_size": (28, 42)}),
            ("vit_pe_core_tiny_patch16_384", {"img_size": (32, 48)}),
            ("vit_small_patch16_rope_mixed_ape_224", {"img_size": (48, 32)}),
            ("vit_small_patch16_dinov3", {"img_size": (32, 64)}),
        ],
        2,
    ),
)
def test_grids_that_are_not_square(name: str, options: dict) -> None:
    import torch

    reference = torch_reference.randomised(name, **TINY, **options)
    network = torch_reference.ported(name, reference, **TINY, **options)
    height, width = options["img_size"]
    x = torch_reference.images(max(height, width))[:, :height, :width]
    with torch.no_grad():
        assert (
            torch_reference.difference(torch_reference.outputs(network, x), reference(torch_reference.torch_images(x)))
            < 1e-5
        )


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_small_patch16_rope_ape_224"])
def test_weights_fill_a_network_for_images_of_another_size(name: str) -> None:
    import torch

    patch = 14 if "patch14" in name else 16
    reference = torch_reference.randomised(name, **TINY, img_size=2 * patch)
    resized = jaxtl.from_torch(reference, name, **TINY, img_size=3 * patch)
    x = torch_reference.images(3 * patch)
    reference.set_input_size((3 * patch, 3 * patch))
    with torch.no_grad():
        assert torch_reference.difference(resized(x), reference(torch_reference.torch_images(x))) < 1e-5


@pytest.mark.parametrize("half", [False, True])
def test_products_of_turned_queries_and_keys_depend_on_their_distance_alone(half: bool) -> None:
    sin, cos = AxialRope((5, 7), 16).tables("float32")
    vectors = np.random.default_rng(0).standard_normal((2, 1, 1, 16)).astype(np.float32)
    tokens = (jnp.broadcast_to(vector, (1, 35, 1, 16)) for vector in vectors)
    query, key = (rotate(x, sin, cos, half=half)[0, :, 0] for x in tokens)
    products = np.asarray(query @ key.T).reshape(5, 7, 5, 7)
    np.testing.assert_allclose(products[1, 2, 3, 6], products[0, 0, 2, 4], rtol=1e-4)
    np.testing.assert_allclose(products[4, 4, 0, 4], products[4, 1, 0, 1], rtol=1e-4)
    assert abs(products[1, 2, 3, 6] - products[1, 2, 4, 6]) > 1e-3


def test_stages_and_what_a_cut_network_has() -> None:
    whole = Graph("vit_pe_core_tiny_patch16_384", depth=2)
    assert whole.stages == ("stem", "blocks.0", "blocks.1", "norm", "head")
    assert {whole.stage_of(path) for path in whole.params if path.startswith(("norm.", "attn_pool."))} == {"norm"}
    cut = Graph("vit_pe_core_tiny_patch16_384", depth=2, until="blocks.0")
    assert cut.stages == ("stem", "blocks.0", "head")
    assert not any(path.startswith(("norm.", "attn_pool.", "blocks.1")) for path in cut.params)
    assert Graph("vit_pe_spatial_tiny_patch16_512", depth=2).stages == ("stem", "blocks.0", "blocks.1", "head")
    mixed = Graph("vit_small_patch16_rope_mixed_224", depth=2)
    assert mixed.params["rope.freqs"].shape == (2, 2, 6, 32)
    assert mixed.stage_of("rope.freqs") == "stem"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "tokens"}, r"global_pool is 'tokens'.*'token'"),
        ({"class_token": False, "global_pool": "token"}, "no class token"),
        ({"num_heads": 5}, "does not divide"),
        ({"num_kv_heads": (3, 1)}, "2 numbers for 12 blocks"),
        ({"num_kv_heads": 1}, "as many with qkv_fused"),
        ({"rope_type": "mixd"}, "'mixed'"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.build("eva02_tiny_patch14_224", **options)


def test_position_embeddings_that_are_not_square() -> None:
    resize = registry.build("eva02_tiny_patch14_224").adapters["pos_embed"]
    with pytest.raises(InputError, match="no square of patches"):
        resize(np.zeros((1, 8, 192), np.float32))
