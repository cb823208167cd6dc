"""Weights of networks that lie inside of other modules."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import bits, small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.pretrained.names import state_dict

CIFAR = "cifar_resnet20"


def _state(prefix: str = "") -> dict[str, np.ndarray]:
    model = small_model()
    return {prefix + name: array for name, array in state_dict(model.params, model.batch_stats).items()}


@pytest.mark.parametrize("prefix", ["backbone.", "net.", "base_model.", "encoder.model.", "0."])
def test_a_prefix_of_somebodys_own_is_taken_off_and_said(prefix: str) -> None:
    model = jaxtl.from_torch(_state(prefix), CIFAR)
    assert bits(model.params) == bits(small_model().params)
    assert model.notes == (f"{prefix!r} in front of the names in the weights is taken off",)


def test_what_lies_beside_the_network_alone_is_left_over() -> None:
    with pytest.raises(InputError, match=r"not in the network \(1\):\n  criterion\.weight \(4,\)$"):
        jaxtl.from_torch({**_state("model."), "criterion.weight": np.ones(4)}, CIFAR)


def test_a_body_with_a_head_beside_it() -> None:
    state = {name: array for name, array in _state("backbone.").items() if ".fc." not in name}
    head = {name: array for name, array in _state().items() if name.startswith("fc.")}
    assert bits(jaxtl.from_torch(state | head, CIFAR).params) == bits(small_model().params)
    assert jaxtl.from_torch(state, CIFAR, num_classes=2, until="layer2").num_classes == 2


def test_two_networks_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match=r"holds the network 2 times, under 'student\.' and 'teacher\.'"):
        jaxtl.from_torch(_state("student.") | _state("teacher."), CIFAR)


def test_a_network_of_torchvisions_inside_of_another() -> None:
    from jaxtl.pretrained.torchvision import to_torchvision

    model = small_model("mobilenetv2_100", num_classes=3)
    state = to_torchvision(state_dict(model.params, model.batch_stats), model.graph)
    again = jaxtl.from_torch({f"backbone.{name}": array for name, array in state.items()}, "mobilenetv2_100")
    assert bits(again.params) == bits(model.params)
