"""Pictures with many channels: read, prepared, augmented, kept and trained on as images of one or three are."""

from __future__ import annotations

import numpy as np
import pytest
from odd_images import white_is_zero
from PIL import Image

import jaxtl
from jaxtl.data.augment import Augment
from jaxtl.data.bands import as_grey
from jaxtl.data.images import image_size, read_image, reduced
from jaxtl.data.modes import convert
from jaxtl.data.preprocess import CROP_MODES, Preprocess
from jaxtl.errors import InputError
from jaxtl.recipe import Recipe
from jaxtl.studies.look import look
from jaxtl.train.run import prepare

SIX = Preprocess(16).with_channels(6)


@pytest.fixture
def two(noise) -> tuple[Image.Image, Image.Image]:
    """Two RGB images of one size: six bands are both of them."""
    return noise(45, 30, seed=1), noise(45, 30, seed=2)


def stacked(two) -> np.ndarray:
    return np.concatenate([np.asarray(image) for image in two], axis=2)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("crop_pct", [0.875, 1.15])
def test_six_bands_are_prepared_as_two_images(two, crop_mode, crop_pct):
    changes = {"size": (17, 23), "crop_mode": crop_mode, "crop_pct": crop_pct}
    apart = [Preprocess(16).replace(**changes)(image) for image in two]
    np.testing.assert_array_equal(SIX.replace(**changes)(stacked(two)), np.concatenate(apart, axis=2))


@pytest.mark.parametrize(
    "augment",
    [Augment(), Augment(scale=None, rotate=20, shear=10, zoom=(0.8, 1.2), translate=0.1), Augment(brightness=0.4)],
)
def test_one_draw_changes_all_bands(two, augment):
    apart = [augment(image, Preprocess(16), np.random.default_rng(5)) for image in two]
    together = augment(stacked(two), SIX, np.random.default_rng(5))
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=2))


def test_the_device_changes_all_bands_by_one_draw(two):
    import jax.numpy as jnp

    from jaxtl.data.device_augment import augmented, example_keys

    keys = example_keys(0, jnp.zeros(1, jnp.uint32), jnp.zeros(1, jnp.uint32))
    sizes = jnp.array([[30, 45]])
    augment = Augment(rotate=10, brightness=0.4)
    apart = [augmented(jnp.asarray(image)[None], sizes, keys, augment, (12, 12)) for image in two]
    together = augmented(jnp.asarray(stacked(two))[None], sizes, keys, augment, (12, 12))
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=3))


def test_contrast_of_many_bands_keeps_each_bands_mean():
    bands = np.full((8, 8, 4), 130, np.uint8)
    bands[:4] = (100, 140, 160, 150)
    preprocess = Preprocess(8, crop_pct=1.0).with_channels(4)
    changed = Augment(scale=None, flip=0, contrast=0.9)(bands, preprocess, np.random.default_rng(3))
    assert not np.array_equal(changed, bands)
    np.testing.assert_allclose(changed.mean(axis=(0, 1)), bands.mean(axis=(0, 1)), atol=1)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_colours_of_many_bands_are_refused(channels):
    with pytest.raises(InputError, match=f"saturation and hue is for RGB images, not for {channels} channels"):
        Augment(saturation=0.1, hue=0.1).check_channels(channels)


def test_convert_takes_arrays_of_any_channels(two):
    image = two[0]
    assert convert(np.asarray(image), 3).mode == "RGB"
    assert convert(np.asarray(image)[:, :, :1], 3).size == image.size
    assert convert(np.asarray(image)[:, :, 0], 1).mode == "L"
    np.testing.assert_array_equal(convert(np.asarray(image)[:, :, :2], 2), np.asarray(image)[:, :, :2])
    assert convert(Image.new("RGBA", (3, 2), (1, 2, 3, 4)), 4)[0, 0].tolist() == [1, 2, 3, 4]
    assert convert(Image.new("LA", (3, 2), (1, 2)), 2)[0, 0].tolist() == [1, 2]
    assert convert(np.full((1, 1, 5), 4095, np.uint16), 5)[0, 0].tolist() == [255] * 5
    assert reduced(stacked(two), 10).shape == (15, 23, 6)
    assert as_grey(np.full((2, 2, 6), 9, np.uint8)).getpixel((0, 0)) == 9


@pytest.mark.parametrize(
    ("picture", "channels", "message"),
    [
        (np.zeros((4, 4, 6), np.uint8), 3, "has 6 channels where the network takes 3.*in_chans=6"),
        (np.zeros((4, 4, 3), np.uint8), 6, "has 3 channels where the network takes 6"),
        (np.zeros((4, 4, 6), np.float32), 6, "floating-point pixels have no known range"),
        (np.full((4, 4, 6), -1, np.int16), 6, "pixels below 0, such as -1"),
        (np.full((4, 4, 6), 70000, np.int32), 6, "more than 16 bits"),
        (np.zeros((2, 4, 4, 6), np.uint8), 6, r"not \(2, 4, 4, 6\)"),
        (Image.new("L", (4, 4)), 6, "has 1 channel where"),
        (Image.new("P", (4, 4)), 4, "palette"),
    ],
)
def test_what_does_not_fit_is_refused(picture, channels, message):
    with pytest.raises(InputError, match=message):
        convert(picture, channels)


def save_pages(path, bands: np.ndarray) -> None:
    first, *others = [Image.fromarray(np.ascontiguousarray(bands[:, :, band])) for band in range(bands.shape[2])]
    first.save(path, save_all=True, append_images=others)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_of_six_bands(tmp_path, two, dtype):
    bands = stacked(two).astype(dtype)
    if dtype == np.uint16:
        bands[0, 0, 5] = 4095  # one image is 12-bit data or not as a whole
    np.save(tmp_path / "last.npy", bands)
    np.save(tmp_path / "first.npy", np.moveaxis(bands, 2, 0))
    save_pages(tmp_path / "pages.tif", bands)
    first, second = two
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    for name in ("last.npy", "first.npy", "pages.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name, 6), convert(bands, 6), err_msg=name)
        assert read_image(tmp_path / name, 6, at_least=10).shape == (15, 23, 6)
        assert image_size(tmp_path / name, 6) == (45, 30)
    np.testing.assert_array_equal(read_image(tmp_path / "two.tif", 6), stacked(two))
    assert read_image(tmp_path / "pages.tif").mode == "RGB"  # the first page
    first.putalpha(100)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
    assert read_image(tmp_path / "moving.webp", 4).shape == (30, 45, 4)


def test_files_that_do_not_fit_are_named(tmp_path, two):
    np.save(tmp_path / "flat.npy", np.zeros(7, np.uint8))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.broadcast_to(np.uint8(0), (2, 2, 6)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-3])
    (tmp_path / "empty.npy").touch()
    two[0].save(tmp_path / "sizes.tif", save_all=True, append_images=[two[1].crop((0, 0, 5, 5))])
    (tmp_path / "white.tif").write_bytes(white_is_zero(np.zeros((5, 5), np.uint16), pages=6))
    for name, message in [
        ("flat.npy", r"holds an array \(7,\)"),
        ("object.npy", "replace it or delete it"),
        ("cut.npy", "replace it or delete it"),
        ("empty.npy", "the file is empty"),
        ("sizes.tif", "page 2 has 5x5 pixels and the first 45x30"),
        ("white.tif", "page 1 has 16-bit values of which 0 is white: save it with 0 as black"),
        ("absent.npy", "does not exist"),
    ]:
        with pytest.raises(InputError, match=rf"{name}.*{message}"):
            read_image(tmp_path / name, 6)
    (tmp_path / "wide.npy").rename(tmp_path / "wide.npy.png")
    with pytest.raises(InputError, match=r"wide\.npy.*NumPy array"):
        read_image(tmp_path / "wide.npy.png")


@pytest.fixture
def six_bands(tmp_path) -> str:
    """A folder of two classes that differ in the fifth band alone."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dry", "wet")):
        (tmp_path / "fields" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (20, 24, 6), dtype=np.uint8)
            pixels[:, :, 4] = 40 + 160 * label
            np.save(tmp_path / "fields" / name / f"{number}.npy", pixels)
        save_pages(tmp_path / "fields" / name / "pages.tiff", pixels)
    return f"folder:{tmp_path / 'fields'}"


def test_every_storage_gives_six_bands(six_bands):
    shown = {}
    for storage in ("stream", "disk", "device"):
        data = jaxtl.open_data(six_bands, SIX, storage=storage)
        assert len(data.train) + len(data.val) == 26
        batch = next(data.train_batches(8))
        shown[storage] = np.asarray(batch["image"])
        assert shown[storage].shape == (8, 16, 16, 6)
        wet = batch["label"] == 1
        assert (shown[storage][wet][..., 4] == 200).all()
        assert (shown[storage][~wet][..., 4] == 40).all()
    np.testing.assert_array_equal(shown["stream"], shown["disk"])
    assert data.storage.kind == "device"
    with pytest.raises(InputError, match="hue is for RGB images"):
        jaxtl.open_data(six_bands, SIX, augment=Augment(hue=0.1))


def test_a_look_at_six_bands(six_bands):
    found = look(jaxtl.open_data(six_bands, SIX), progress=False)
    assert (found.images, found.widths, found.grey) == (20, (24, 24, 24), 0)


def test_a_recipe_for_six_bands(six_bands, tmp_path):
    recipe = Recipe.model_validate(
        {
            "model": {"name": "cifar_resnet20.letters", "in_chans": 6, "until": "layer1"},
            "data": {"source": six_bands, "size": 16, "max_bad": 0.2},
            "epochs": 1,
            "batch_size": 8,
        }
    )
    np.save(tmp_path / "fields" / "wet" / "broken.npy", np.zeros((4, 4, 5), np.uint8))
    ready = prepare(recipe)
    assert ready.model.preprocess.channels == 6
    assert len(ready.data.train) + len(ready.data.val) == 26
    assert sum(map(len, ready.data.left_out.values())) == 1


def test_six_bands_train_end_to_end(six_bands, tmp_path):
    model = jaxtl.load("cifar_resnet20.letters", num_classes=2, in_chans=6, until="layer1")
    model = model.replace(preprocess=model.preprocess.replace(size=16))
    data = jaxtl.open_data(six_bands, model)
    rates = {"optimizer.slow.lr": 1e-3, "optimizer.fast.lr": 1e-2}
    result = jaxtl.fine_tune(model, data, epochs=6, batch_size=8, output=str(tmp_path / "run"), progress=False, **rates)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    loaded = jaxtl.load(tmp_path / "run" / "best")
    assert loaded.preprocess.channels == 6
    file = tmp_path / "fields" / "wet" / "3.npy"
    assert jaxtl.predict(loaded, [file])[0]["label"] in ("dry", "wet")
