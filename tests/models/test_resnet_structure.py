from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch_reference
from families import rotating
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.resnet import ARCHITECTURES
from jaxtl.pretrained.names import torch_name, torch_shape
from jaxtl.trees import flatten


def shapes(network) -> dict[str, tuple[int, ...]]:
    """torch's name and shape of every parameter and statistic."""
    leaves = flatten(nnx.to_pure_dict(nnx.state(network)))
    return {torch_name(path): torch_shape(path, leaf.shape) for path, leaf in leaves.items()}


def output_shape(function, size: int = 64, channels: int = 3) -> tuple[int, ...]:
    return jax.eval_shape(function, jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)).shape


def abstract(network, method: str = "__call__"):
    """A function of images that runs a network whose variables are zeros."""
    graph, variables = nnx.split(network)
    zeros = nnx.to_pure_dict(variables)

    def run(x):
        filled = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), zeros)
        return getattr(nnx.merge(graph, filled), method)(x)

    return run


def test_every_architecture_of_timms_file_is_here_but_the_pruned() -> None:
    timms = torch_reference.import_timm().list_models(module="resnet")
    assert sorted(ARCHITECTURES) == sorted(name for name in timms if not name.endswith("_pruned"))


@pytest.mark.parametrize("name", rotating(sorted(ARCHITECTURES), 20))
def test_parameters_have_timms_names_and_shapes(name: str) -> None:
    theirs = torch_reference.timm_network(name).state_dict()
    expected = {key: tuple(t.shape) for key, t in theirs.items() if not key.endswith("num_batches_tracked")}
    assert shapes(registry.build(name)) == expected


@pytest.mark.parametrize("name", ["resnet18", "resnetrs50", "cifar_resnet20"])
def test_every_parameter_belongs_to_exactly_one_stage(name: str) -> None:
    network = registry.build(name)
    assert tuple(network.stage_modules) == network.stages
    owned = [module for modules in network.stage_modules.values() for module in modules]
    assert len(owned) == len(set(owned))
    assert set(nnx.to_pure_dict(nnx.state(network))) <= set(owned)
    assert network.head_stage == "fc"


@pytest.mark.parametrize(
    ("name", "until", "width"),
    [
        ("resnet50", "layer3", 1024),
        ("resnet18", "stem", 64),
        ("resnetrs50", "layer1", 256),
        ("cifar_resnet20", "layer2", 32),
    ],
)
def test_until_cuts_after_a_stage_and_puts_a_head_there(name: str, until: str, width: int) -> None:
    whole, cut = registry.build(name, num_classes=5), registry.build(name, num_classes=5, until=until)
    assert cut.stages == (*whole.stages[: whole.stages.index(until) + 1], "fc")
    assert cut.num_features == width
    kept = {key: shape for key, shape in shapes(cut).items() if not key.startswith("fc.")}
    assert kept.items() <= shapes(whole).items()
    assert shapes(cut)["fc.weight"] == (5, width)
    assert output_shape(abstract(cut)) == (2, 5)
    assert output_shape(abstract(cut, "pooled_features")) == (2, width)


@pytest.mark.parametrize(("name", "width", "classes"), [("resnet18", 512, 1000), ("cifar_resnet20", 64, 10)])
def test_classes_and_channels(name: str, width: int, classes: int) -> None:
    assert output_shape(abstract(registry.build(name))) == (2, classes)
    headless = registry.build(name, num_classes=0, in_chans=5)
    assert not any(key.startswith("fc") for key in shapes(headless))
    assert headless.stage_modules["fc"] == ()
    assert output_shape(abstract(headless), channels=5) == (2, width)
    with pytest.raises(InputError, match=r"convolution of 5 channels got an array of shape \(2, 64, 64, 3\)"):
        output_shape(abstract(headless))


@pytest.mark.parametrize(("output_stride", "size"), [(32, 2), (16, 4), (8, 8)])
@pytest.mark.parametrize("name", ["resnet26", "resnet26d"])
def test_output_stride_keeps_parameters(name: str, output_stride: int, size: int) -> None:
    network = registry.build(name, output_stride=output_stride, num_classes=0)
    network.pool = lambda x: x
    assert output_shape(abstract(network)) == (2, size, size, 2048)
    assert shapes(network) == shapes(registry.build(name, num_classes=0))


def test_drop_path_grows_linearly_with_depth() -> None:
    network = registry.build("resnet18", drop_path_rate=0.7, until="layer2")
    blocks = (getattr(getattr(network, stage), block) for stage in ("layer1", "layer2") for block in "01")
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_two_builds_are_equal_and_hash_alike() -> None:
    first, second = (nnx.split(registry.build("ecaresnet26t"))[0] for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: registry.build("resnet5O"), "no architecture is called 'resnet5O'; did you mean 'resnet50'"),
        (lambda: registry.build("x"), "no architecture is called 'x'"),
        (lambda: registry.build("resnet18", output_strid=8), "no option 'output_strid'; did you mean 'output_stride'"),
        (lambda: registry.build("resnet18", until="layer5"), "no stage is called 'layer5'.*stem, layer1, .*layer4"),
        (lambda: registry.build("resnet18", until="fc"), "can end after stem, layer1"),
        (lambda: registry.build("resnet18", output_stride=4), "output_stride is 4; .* 8, 16 or 32"),
        (lambda: registry.build("resnet18", attn_layer="sse"), "attn_layer is 'sse'; did you mean 'se'"),
        (lambda: registry.build("resnet18", act_layer="rellu"), "no activation is called 'rellu'; did you mean 'relu'"),
        (lambda: registry.build("resnet18", base_width=128), "basic blocks have neither"),
    ],
)
def test_what_is_unknown_is_named_with_what_there_is(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
