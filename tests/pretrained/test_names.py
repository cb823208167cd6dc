from __future__ import annotations

import numpy as np
import pytest
from small_models import small_model

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.pretrained import names
from jaxtl.trees import flatten


@pytest.mark.parametrize("architecture", ["cifar_resnet20", "resnet50", "ecaresnet26t", "seresnext26d_32x4d"])
def test_names_and_shapes_are_timms(architecture: str) -> None:
    from torch_reference import timm_network

    graph = Graph(architecture)
    leaves = graph.params | graph.batch_stats
    ours = {names.torch_name(path): names.torch_shape(path, leaf.shape) for path, leaf in leaves.items()}
    if architecture.startswith("cifar"):
        assert ours["layer1.0.conv1.weight"] == (16, 16, 3, 3)
        return
    theirs = {name: tuple(tensor.shape) for name, tensor in timm_network(architecture).state_dict().items()}
    assert ours == {name: shape for name, shape in theirs.items() if not name.endswith(names.COUNTER)}


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 5), (7, 3, 5, 2)])
def test_axes_go_there_and_back(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for path in ("a.kernel", "a.scale", "a.bias", "a.mean"):
        there = names.to_flax(path, names.to_torch(path, array))
        np.testing.assert_array_equal(there, array)
        assert names.to_torch(path, array).shape == names.torch_shape(path, shape)


def test_a_convolution_keeps_its_meaning() -> None:
    torch_kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # out, in, height, width
    flax_kernel = names.to_flax("conv.kernel", torch_kernel)
    assert flax_kernel.shape == (5, 7, 3, 2)
    assert flax_kernel[4, 6, 2, 1] == torch_kernel[1, 2, 4, 6]


def test_a_state_dict_converts_back_to_the_same_bits() -> None:
    model = small_model()
    leaves = flatten(model.params) | flatten(model.batch_stats)
    state = names.state_dict(model.params, model.batch_stats)
    assert sum(name.endswith(names.COUNTER) for name in state) == len(model.graph.batch_norms)
    back = names.convert(state, {path: leaf.shape for path, leaf in leaves.items()})
    assert {path: array.tobytes() for path, array in back.items()} == {
        path: np.asarray(leaf).tobytes() for path, leaf in leaves.items()
    }


def test_nothing_is_read_before_everything_fits() -> None:
    class Source(dict):
        def shapes(self):
            return {"a.weight": (2,), "b.weight": (9,)}

        def __getitem__(self, name):
            raise AssertionError("read")

    with pytest.raises(InputError, match=r"missing from the weights \(1\)(.|\n)*another shape \(1\)"):
        names.convert(Source(), {"a.scale": (2,), "b.scale": (3,), "c.scale": (4,)})
