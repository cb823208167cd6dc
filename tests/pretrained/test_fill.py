"""Leaves that belong to places on a grid: from which one their weights come, and how they get to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch_reference
from small_models import bits, small_model

import jaxtl
from jaxtl.models.transformer import resize_positions
from jaxtl.models.windows import resize_bias_table
from jaxtl.pretrained.names import state_dict
from jaxtl.trees import flatten

VIT, EVA, SWIN = "vit_tiny_patch16_224", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"
TINY = {"embed_dim": 16, "depth": 1, "num_heads": 2}
TINY_SWIN = {"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4), "img_size": 64}
TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"


def _timms(name: str, state: dict[str, np.ndarray], stored: dict, new: tuple[int, int]) -> np.ndarray:
    """The position embedding that timm makes of these weights, whose folder says ``stored``."""
    torch_reference.import_timm()
    import torch
    from timm.models import eva, vision_transformer

    network = torch_reference.timm_network(name, **TINY, img_size=new, num_classes=4)
    network.pretrained_model_args = stored
    timms = {key: torch.from_numpy(array.copy()) for key, array in state.items()}
    return (vision_transformer if name == VIT else eva).checkpoint_filter_fn(timms, network)["pos_embed"].numpy()


@pytest.mark.parametrize(
    ("name", "stored", "new", "before", "after"),
    [
        (VIT, {}, (112, 448), "14 x 14", "7 x 28"),
        (VIT, {"img_size": (32, 128)}, (48, 96), "2 x 8", "3 x 6"),
        (VIT, {"img_size": (32, 128)}, (64, 64), "2 x 8", "4 x 4"),
        (VIT, {"img_size": (32, 96)}, (32, 128), "2 x 6", "2 x 8"),
        (EVA, {}, (112, 448), "16 x 16", "8 x 32"),
        (EVA, {"img_size": (28, 112)}, (42, 56), "2 x 8", "3 x 4"),
    ],
)
def test_a_folder_says_the_grid_of_its_positions(name, stored, new, before: str, after: str, tmp_path: Path) -> None:
    model = small_model(name, **TINY, **stored)
    moved = jaxtl.load(jaxtl.save(model, tmp_path), img_size=new)
    expected = _timms(name, state_dict(model.params, {}), stored, new)
    np.testing.assert_allclose(moved.params["pos_embed"], expected, atol=1e-5)
    assert f"pos_embed is resized from a grid of {before} to a grid of {after}" in moved.notes


@pytest.mark.parametrize("size", [(32, 128), (32, 96)])
def test_positions_of_the_same_grid_keep_their_bits(size: tuple[int, int], tmp_path: Path) -> None:
    model = small_model(VIT, **TINY, img_size=size)
    folder = jaxtl.save(model, tmp_path)
    for again in (jaxtl.load(folder), jaxtl.load(folder, img_size=size)):
        assert bits(again.params) == bits(model.params)
        assert not any("pos_embed" in note for note in again.notes)


def test_weights_alone_are_taken_for_the_network_they_fit() -> None:
    model = small_model(VIT, **TINY, img_size=(112, 448))
    again = jaxtl.from_torch(state_dict(model.params, {}), VIT, **TINY, img_size=(112, 448))
    assert bits(again.params) == bits(model.params)
    said = "pos_embed is taken to be for a grid of 7 x 28 and not a grid of 14 x 14; the weights do not say which"
    assert said in again.notes


def test_weights_alone_are_resized_from_a_square() -> None:
    model = small_model(VIT, **TINY, img_size=64)
    moved = jaxtl.from_torch(state_dict(model.params, {}), VIT, **TINY, img_size=(32, 48))
    expected = resize_positions(np.asarray(model.params["pos_embed"]), (2, 3), prefix=1, old=(4, 4))
    np.testing.assert_array_equal(moved.params["pos_embed"], expected)


@pytest.mark.parametrize(("stored", "new"), [(8, (5, 13)), ((5, 13), 8), ((3, 5), 4)])
def test_a_folder_says_the_windows_of_its_tables(stored, new, tmp_path: Path) -> None:
    model = small_model(SWIN, **TINY_SWIN, window_size=stored)
    moved = jaxtl.load(jaxtl.save(model, tmp_path), window_size=new)
    old, window = ((side, side) if isinstance(side, int) else side for side in (stored, new))
    table = np.asarray(flatten(model.params)[TABLE])
    expected = resize_bias_table(table, window, old=old)
    assert old == window or not np.array_equal(expected, table)
    np.testing.assert_array_equal(flatten(moved.params)[TABLE], expected)


@pytest.mark.parametrize("name", [VIT, EVA])
def test_a_live_module_says_the_size_it_was_built_for(name: str) -> None:
    torch_reference.import_timm()
    size, new = (112, 448), (56, 112)
    module = torch_reference.randomised(name, size, num_classes=4, img_size=size, **TINY)
    model = jaxtl.from_torch(module, name, **TINY)
    assert model.preprocess.size == size
    images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    theirs = module(torch_reference.torch_images(images))
    assert torch_reference.difference(model(images), theirs) < 1e-4
    moved = jaxtl.from_torch(module, name, **TINY, img_size=new)
    state = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    expected = _timms(name, state, {"img_size": size}, new)
    np.testing.assert_allclose(moved.params["pos_embed"], expected, atol=1e-5)
