from __future__ import annotations

from small_models import small_model, training

import jaxtl


def test_each_batch_norm_follows_the_label_of_its_own_scale() -> None:
    model = small_model()

    def label(path: str, leaf: object) -> str:
        if path == "layer2.1.bn1.scale":
            return "norms"
        if path.startswith("layer3") and path != "layer3.0.bn2.scale":
            return "all"
        return "frozen"

    expected = {f"layer3.{block}.bn{norm}" for block in range(3) for norm in (1, 2)} - {"layer3.0.bn2"}
    assert jaxtl.training_modes(model, label).adapt == expected | {"layer2.1.bn1"}


def test_all_or_nothing() -> None:
    model = small_model()
    everything = jaxtl.training_modes(model, lambda path, leaf: "all")
    assert everything.adapt == set(model.graph.batch_norms)
    assert len(everything.adapt) == 19
    assert jaxtl.training_modes(model, training("fc")) == type(everything)()


def test_dropout_and_drop_path_are_active_beside_what_is_trained_alone() -> None:
    model = small_model(drop_rate=0.2, drop_path_rate=0.3)
    in_layer3 = {f"layer3.{block}.drop_path" for block in range(3)}
    assert jaxtl.training_modes(model, training("layer3")).random == in_layer3
    assert jaxtl.training_modes(model, training("fc")).random == {"head_drop"}
    assert jaxtl.training_modes(model, training("layer3", "fc")).random == in_layer3 | {"head_drop"}
    one = jaxtl.training_modes(model, lambda path, _: "a" if path == "layer2.1.conv1.kernel" else "frozen")
    assert one.random == {"layer2.1.drop_path"}
    assert jaxtl.training_modes(small_model(), lambda path, leaf: "all").random == set()
