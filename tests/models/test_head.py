from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.head import make_head
from jaxtl.models.layers import Linear
from jaxtl.trees import flatten


def _kernels(head: nnx.Module) -> dict[str, tuple[int, ...]]:
    leaves = flatten(nnx.to_pure_dict(nnx.state(head, nnx.Param)))
    return {path: leaf.shape for path, leaf in leaves.items() if path.endswith("kernel")}


def test_none_one_layer_or_several() -> None:
    assert make_head(8, 0, hidden=(4,)) is None
    assert isinstance(make_head(8, 3), Linear)
    assert _kernels(make_head(8, 3, hidden=(6, 5))) == {"0.kernel": (8, 6), "2.kernel": (6, 5), "4.kernel": (5, 3)}
    assert _kernels(make_head(8, 3, hidden=(6, 5), drop_rate=0.1)) == {
        "0.kernel": (8, 6),
        "3.kernel": (6, 5),
        "6.kernel": (5, 3),
    }


def test_dropout_between_the_layers_is_active_in_training_alone() -> None:
    graph, state = nnx.split(make_head(8, 3, hidden=(64,), drop_rate=0.5))
    filled = jax.tree.map(lambda leaf: jnp.ones(leaf.shape) / 8, nnx.to_pure_dict(state))
    head = nnx.merge(graph, filled)
    x = jnp.ones((1, 8))
    assert head(x).round(4).tolist() == [[pytest.approx(64 * 1.125 / 8 + 0.125)] * 3]
    training = nnx.view(head, deterministic=False, raise_if_not_found=False)
    assert training(x, nnx.Rngs(dropout=0)).tolist() != head(x).tolist()


@pytest.mark.parametrize("name", ["resnet18", "cifar_resnet20"])
def test_families_take_hidden_widths(name: str) -> None:
    network = registry.build(name, num_classes=5, head=[7])
    width = network.num_features
    assert _kernels(network.fc) == {"0.kernel": (width, 7), "2.kernel": (7, 5)}
    assert network.stage_modules["fc"] == ("fc",)
    assert registry.build(name, num_classes=0, head=(7,)).stage_modules["fc"] == ()
    with pytest.raises(InputError, match=r"head must be the widths of the head's hidden layers.*not 7"):
        registry.build(name, head=7)
