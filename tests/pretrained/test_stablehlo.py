"""Programs for JAX alone, of one network of each family and in the forms that layers take on any device."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from families import FAMILIES, rotating
from small_models import small_model

import jaxtl
from jaxtl.pretrained.stablehlo import program

SMALL = {
    **{family.member: (family.member_options, family.member_size) for family in FAMILIES.values()},
    "mobilenetv4_hybrid_medium_075": ({}, 64),
    "tf_efficientnet_cc_b0_4e": ({"depth_multiplier": 0.3, "channel_multiplier": 0.5}, 64),
    "vit_dwee_patch16_reg1_gap_256": ({"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}, 32),
}
DEVICES = {"CPU": (True, False), "GPU": (False, True), "TPU": (False, False)}
ALWAYS = (
    ("vit_tiny_patch16_224", "CPU"),
    ("vit_tiny_patch16_224", "GPU"),
    ("swin_tiny_patch4_window7_224", "CPU"),
    ("swinv2_tiny_window8_256", "CPU"),
)


@pytest.mark.parametrize(
    ("name", "device"), rotating([(name, device) for device in DEVICES for name in SMALL], 2, ALWAYS)
)
def test_networks_of_all_families_in_the_forms_for_a(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, size = SMALL[name]
    model = small_model(name, **options)
    model = model.replace(preprocess=model.preprocess.replace(size=size))
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    expected = model.answers(model(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)))
    for module in [module for path, module in sys.modules.items() if path.startswith("jaxtl.")]:
        for function, answer in zip(("on_cpu", "on_gpu"), DEVICES[device], strict=True):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, lambda answer=answer: answer)
    np.testing.assert_allclose(program(model).call(pixels), expected, atol=1e-5)
