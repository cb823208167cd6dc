"""PyTorch's side does jaxtl's work: the same stages, the same rates, the same images."""

import numpy as np
import pytest
from PIL import Image
from timm_guest import import_timm

import jaxtl
from benchmarks import end_to_end
from benchmarks.images import make_folder
from benchmarks.task import Task
from benchmarks.torch_network import ALL, HEAD, LAST, Network
from benchmarks.torch_training import _batches, rate, train
from jaxtl.finetune.schedules import rate_table
from jaxtl.models.graph import Graph
from jaxtl.recipe import Cosine

unclosed = pytest.mark.filterwarnings(  # timm's data leaves images open
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def guest():
    import_timm()
    from benchmarks.torch_side import Guest, guest

    made = guest()
    return Guest(made.torch, made.timm, gpu=False)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "vit_tiny_patch16_224"])
def test_front_and_rest_are_the_network(guest, name):
    network = Network(guest, name, LAST, classes=3, size=32)
    network.train(False)
    images = guest.torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32))
    between = network.prefix(images)
    logits = network.suffix(between)
    assert not between.requires_grad
    assert logits.requires_grad
    guest.torch.testing.assert_close(logits, network.model(images))

    graph = Graph(name, num_classes=3, img_size=32) if "vit" in name else Graph(name, num_classes=3)
    assert (network.stages, network.last_stage) == (graph.stages, graph.last_stage)
    front = graph.stages[: graph.stages.index(graph.last_stage)]
    ours = sum(np.prod(leaf.shape) for path, leaf in graph.params.items() if graph.stage_of(path) not in front)
    assert sum(parameter.numel() for parameter in network.trained()) == ours


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "vit_tiny_patch16_224"])
def test_the_head_alone_gets_pooled_features(guest, name):
    network = Network(guest, name, HEAD, classes=3, size=32)
    network.train(False)
    images = guest.torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32))
    pooled = network.prefix(images)
    assert pooled.shape == (2, network.model.num_features)
    guest.torch.testing.assert_close(network.suffix(pooled), network.model(images))


def test_everything_trains_or_the_head_alone(guest):
    options = {"classes": 3, "size": 32, "until": "layer3"}
    whole = Network(guest, "resnet18", ALL, **options)
    graph = Graph("resnet18", num_classes=3, until="layer3")
    assert whole.stages == graph.stages
    assert sum(p.numel() for p in whole.trained()) == sum(np.prod(leaf.shape) for leaf in graph.params.values())
    head = Network(guest, "resnet18", HEAD, **options)
    head.train(True)
    assert sum(p.numel() for p in head.trained()) == 256 * 3 + 3
    assert not any(module.training for module in head.model.layer3.modules())


def test_the_rate_is_jaxtls():
    theirs = [3.0 * rate(step, steps=40, warmup=5, final=0.01) for step in range(40)]
    ours = rate_table(Cosine(warmup_epochs=0.5, final=0.01), peak=3.0, steps=40, steps_per_epoch=10)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)


def test_evaluation_pixels_are_jaxtls(guest, tmp_path):
    from benchmarks.torch_data import make_loader, preprocess

    task = Task(make_folder(tmp_path, train=8, val=4, pixels=48), "", HEAD, epochs=1, size=32)
    loader = make_loader(guest, task, "val", augment="none", shuffle=False, workers=0)
    data = jaxtl.open_data(f"folder:{task.data}", jaxtl.Preprocess.from_dict(preprocess(guest, task)))
    batch = next(data.eval_batches(4))
    for place, pixels in enumerate(batch["image"]):
        path = loader.dataset.filename(place, absolute=True)
        assert path.endswith(data.val.names[place])
        with Image.open(path) as image:
            np.testing.assert_array_equal(pixels.transpose(2, 0, 1), loader.dataset.transform(image.convert("RGB")))
    np.testing.assert_allclose(loader.mean.flatten() / 255, data.preprocess.mean, rtol=1e-6)
    np.testing.assert_allclose(loader.std.flatten() / 255, data.preprocess.std, rtol=1e-6)


@pytest.mark.parametrize("trains", [ALL, LAST, HEAD])
def test_a_task_is_a_recipe(trains):
    recipe = jaxtl.Recipe(**Task("somewhere", "", trains, epochs=2, augment="light", views=2).recipe())
    assert list(recipe.optimizer) == (["fast"] if trains == HEAD else ["fast", "slow"])
    assert recipe.data.augment == "light"
    assert recipe.views == 2


@pytest.fixture
def task(tmp_path):
    folder = make_folder(tmp_path, train=10, val=4, pixels=32)
    return Task(folder, "", HEAD, epochs=2, size=32, batch_size=4, eval_batch_size=4, eval_every=2)


@unclosed
def test_features_are_cached_as_pooled(guest, task):
    network = Network(guest, task.model, HEAD, classes=2, size=32, until=task.until)
    inputs = _batches(guest, network, task, workers=0)
    features, labels = next(inputs.epochs[0]())
    assert (features.shape, labels.shape) == ((4, 256), (4,))
    assert (inputs.images, inputs.steps_per_epoch) == ([10, 4], 2)


@unclosed
def test_both_sides_do_the_same(guest, task):
    how = {"workers": 0, "compiled": False}
    theirs = train(guest, task, seed=0, timed=None, **how)
    some = train(guest, task, seed=0, timed=1, **how)
    ours = end_to_end.jaxtl_side(task.case()).answer(0)
    assert ours["same"] == theirs["same"] == some["same"]
    assert (theirs["same"]["images"], theirs["same"]["classes"], theirs["same"]["steps"]) == ([10, 4], 2, 4)
    assert (ours["warm"], some["warm"]) == (None, None)
    assert 0 < theirs["warm"] < theirs["seconds"]
    assert (some["extrapolated"], some["accuracy"]) == (1, None)
