import itertools

import numpy as np
import pytest
from local_files import shared
from PIL import Image, ImageEnhance

import jaxtl
from jaxtl.studies.alike import difference_hash, pairs_within
from jaxtl.studies.look import look


def picture(seed, width=60, height=40, grey=False):
    """A smooth random picture: what a photograph is to a hash."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7) if grey else (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")


@pytest.fixture
def folder(tmp_path):
    """Six training images of cats, two of dogs; two validation images of each."""
    for split, name, seeds in [("train", "cat", range(6)), ("train", "dog", (20, 21))]:
        for seed in seeds:
            put(tmp_path, split, name, seed, picture(seed))
    for name, seeds in [("cat", (40, 41)), ("dog", (42, 43))]:
        for seed in seeds:
            put(tmp_path, "val", name, seed, picture(seed, grey=True))
    return tmp_path


def put(root, split, name, seed, image):
    (root / split / name).mkdir(parents=True, exist_ok=True)
    image.save(root / split / name / f"{seed}.png")


def looked(folder, size=48, **options):
    return look(jaxtl.open_data(f"folder:{folder}", jaxtl.Preprocess(size=size)), progress=False, **options)


def test_counts_sizes_and_colour(folder):
    put(folder, "val", "dog", 44, picture(44, width=200, height=100))
    found = looked(folder)
    assert found.train == {"cat": 6, "dog": 2}
    assert found.val == {"cat": 2, "dog": 3}
    assert (found.images, found.images_per_class, found.imbalance) == (8, 4.0, 3.0)
    assert (found.widths, found.heights, found.short_side) == ((60, 60, 200), (40, 40, 100), 40)
    assert found.smaller == pytest.approx(12 / 13)  # 40 pixels are less than 48
    assert found.grey == pytest.approx(4 / 13)  # saved as RGB with three equal channels
    assert not found.sampled
    assert looked(folder, size=40).smaller == 0
    assert "6 (cat)" in str(found)
    assert "no near duplicates" in str(found)


def test_finds_images_that_were_resaved_resized_or_brightened(folder):
    picture(2).save(folder / "val" / "cat" / "again.jpg", quality=60)
    put(folder, "val", "cat", 100, picture(3).resize((120, 80)))
    put(folder, "val", "dog", 101, ImageEnhance.Brightness(picture(21)).enhance(1.1))
    found = looked(folder)
    assert found.near_duplicates == (
        ("train/cat/2.png", "val/cat/again.jpg"),
        ("train/cat/3.png", "val/cat/100.png"),
        ("train/dog/21.png", "val/dog/101.png"),
    )
    assert "3 pairs" in str(found)


def test_flat_images_are_not_taken_for_one_another(folder):
    for seed, level in enumerate((100, 101)):
        put(folder, ("train", "val")[seed], "cat", 200 + seed, Image.new("RGB", (60, 40), (level,) * 3))
    found = looked(folder)
    assert found.flat == 2
    assert found.near_duplicates == ()


def test_small_or_merely_similar_images_are_no_duplicates(folder):
    for split in ("train", "val"):
        put(folder, split, "cat", 400, picture(50).resize((12, 12)))
    one = np.asarray(picture(7)).copy()
    put(folder, "train", "dog", 401, Image.fromarray(one))
    one[::2, ::2] = np.random.default_rng(0).integers(0, 256, one[::2, ::2].shape)  # same outline, other details
    put(folder, "val", "dog", 401, Image.fromarray(one))
    found = looked(folder)
    assert found.flat == 2
    assert "too small or too flat" in str(found)
    assert found.near_duplicates == ()


def test_finds_equal_pixels_with_different_classes(folder):
    put(folder, "train", "dog", 300, picture(1))
    put(folder, "train", "cat", 301, picture(2))  # twice in the same class contradicts nothing
    found = looked(folder)
    assert found.contradictions == (("train/cat/1.png", "train/dog/300.png"),)
    assert "train/cat/1.png = train/dog/300.png" in str(found)


def test_a_sample_is_said_to_be_one(folder):
    found = looked(folder, most=3)
    assert found.seen == {"train": 3, "val": 3}
    assert found.images == 8
    assert "random sample: 3 of train, 3 of val" in str(found)
    assert looked(folder, seconds=1e-9).seen == {"train": 1, "val": 1}
    with pytest.raises(jaxtl.InputError, match="above 0"):
        looked(folder, most=0)


def test_hash_and_distance_agree_with_the_definition():
    generator = np.random.default_rng(0)
    thumbnails = generator.integers(0, 256, (40, 8, 9), dtype=np.uint8)
    thumbnails[20:] = thumbnails[:20]
    thumbnails[20:, 0, :2] = 255 - thumbnails[20:, 0, :2]
    hashes = difference_hash(thumbnails)
    bits = [[a > b for row in image for a, b in itertools.pairwise(row)] for image in thumbnails.tolist()]
    for one, given in zip(hashes.tolist(), bits, strict=True):
        assert [c == "1" for c in f"{one:064b}"] == given
    near = {
        (i, j)
        for i in range(20)
        for j in range(20)
        if sum(a != b for a, b in zip(bits[i], bits[20 + j], strict=True)) <= 4
    }
    assert near
    (found,) = pairs_within(hashes[:20], hashes[20:])
    assert set(map(tuple, found.tolist())) == near


def test_pairs_across_blocks():
    hashes = np.arange(1300, dtype=np.uint64) << np.uint64(20)
    found = np.concatenate(list(pairs_within(hashes, hashes[[700, 1299]], bits=0)))
    assert found.tolist() == [[700, 0], [1299, 1]]


def test_flowers_hold_a_known_contradiction():
    folder = shared("data/flowers")
    found = look(jaxtl.open_data(f"folder:{folder}", jaxtl.Preprocess(size=160)), progress=False)
    name = "15922772266_1167a06620.jpg"
    assert (f"train/roses/{name}", f"train/tulips/{name}") in found.contradictions
    assert 1 <= len(found.near_duplicates) < 20
