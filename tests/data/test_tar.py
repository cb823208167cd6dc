"""WebDataset shards: what is found in them, at random, and what is said of broken ones."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from jaxtl.data.kinds import Options
from jaxtl.data.tar import open_source
from jaxtl.errors import InputError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shard(tmp_path):
    """Writes a shard of {name in the archive: content}."""

    def write(name: str, members: dict[str, bytes]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            for inside, content in members.items():
                member = tarfile.TarInfo(inside)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


def opened(path, **options):
    return open_source(str(path), 3, Options(**options))


def samples(*labels: int, extension: str = "cls") -> dict[str, bytes]:
    found = {}
    for index, label in enumerate(labels):
        found |= {f"{index:04d}.png": png(index), f"{index:04d}.{extension}": str(label).encode()}
    return found


def test_numbers_beside_images(shard):
    path = shard("a.tar", samples(10, 9, 10))
    found = opened(path)
    assert found.classes == ("9", "10")
    assert found.train.labels.tolist() == [1, 0, 1]
    assert found.train.names == ["a.tar/0000", "a.tar/0001", "a.tar/0002"]
    assert [found.train[i][0].getpixel((0, 0))[0] for i in (2, 0)] == [2, 0]
    assert found.train.size(0) == (4, 3)


def test_text_json_folders_and_extensions_of_several_parts(shard):
    members = {
        "./x/1.seg.png": png(1),
        "./x/1.txt": b"cat\n",
        "y/1.JPG": png(2),
        "y/1.txt": b"dog",
        "readme": b"",
        "y/.a": b"",
    }
    found = opened(shard("a.tar", members))
    assert found.classes == ("cat", "dog")
    assert found.train.names == ["a.tar/x/1", "a.tar/y/1"]
    record = {"label": "b", "age": 3, "tags": ["p", "q"]}
    members = {"1.png": png(1), "1.json": json.dumps(record).encode(), "2.png": png(2)}
    members["2.json"] = json.dumps({"label": "a", "age": 4.5, "tags": []}).encode()
    path = shard("b.tar", members)
    assert opened(path).train.labels.tolist() == [1, 0]
    assert opened(path, label_column="age").task == "regression"
    assert opened(path, label_column="tags").train.labels.tolist() == [[1, 1], [0, 0]]


def test_a_member_may_be_named_as_the_label(shard):
    path = shard("a.tar", samples(0, 1) | {"0000.txt": b"x", "0001.txt": b"y"})
    assert opened(path, label_column="txt").classes == ("x", "y")
    assert opened(path).classes == ("0", "1")


def test_the_image_is_the_member_whose_whole_extension_is_an_images(shard):
    found = opened(shard("a.tar", {f"{number:04d}.depth.png": png(9) for number in range(2)} | samples(0, 1))).train
    assert [found[index][0].getpixel((0, 0))[0] for index in range(2)] == [0, 1]


def test_the_image_may_be_named_by_its_extension(shard):
    pairs = {f"{number:04d}.jpg": png(9) for number in range(2)}
    path = shard("a.tar", pairs | samples(0, 1))
    with pytest.raises(
        InputError,
        match=r"2 samples with several images: a.tar/0000 .jpg, png., .*; path_column names the extension of the one",
    ):
        opened(path)
    for name, values in (("jpg", [9, 9]), (".PNG", [0, 1])):
        found = opened(path, path_column=name).train
        assert [found[index][0].getpixel((0, 0))[0] for index in range(2)] == values
    assert opened(path, path_column="jpg").train.identity(0) != opened(path, path_column="png").train.identity(0)
    with pytest.raises(InputError, match=r"2 samples without an image '.jpeg': a.tar/0000, a.tar/0001.*'jpg'"):
        opened(path, path_column="jpeg")


def test_many_shards_by_braces_globs_and_folders(shard, tmp_path):
    for number in range(12):
        shard(f"s/all-{number:02d}.tar", samples(0, 1))
    for pattern, count in (("s/all-{08..10}.tar", 3), ("s/all-0*.tar", 10), ("s", 12), ("s/all-{01,05}.tar", 2)):
        assert len(opened(tmp_path / pattern).train) == 2 * count
    assert opened(tmp_path / "s").val is None


def test_a_folder_with_shards_for_each_split(shard, tmp_path):
    shard("s/train-0.tar", samples(0, 1))
    shard("s/train-1.tar", samples(0, 1, 1))
    shard("s/val-0.tar", samples(1))
    shard("s/test-0.tar", samples(1))
    found = opened(tmp_path / "s")
    assert (len(found.train), len(found.val), found.origin) == (5, 1, "own shards")
    assert found.notes == ("shards not used: test-0.tar", "no validation images of: 0")


@pytest.mark.parametrize("pattern", ["s", "s/*.tar", "s/flowers-{train,val,test}-0.tar"])
def test_the_part_of_a_split_may_stand_anywhere_in_a_name(shard, tmp_path, pattern):
    shard("s/flowers-train-0.tar", samples(0, 1, 1))
    shard("s/flowers-val-0.tar", samples(1, 0))
    shard("s/flowers-test-0.tar", samples(1))
    found = opened(tmp_path / pattern)
    assert found.train.names == [f"flowers-train-0.tar/{key:04d}" for key in range(3)]
    assert found.val.names == ["flowers-val-0.tar/0000", "flowers-val-0.tar/0001"]
    assert found.notes == ("shards not used: flowers-test-0.tar",)


def test_the_name_of_the_set_may_hold_such_words_too(shard, tmp_path):
    for name in ("dev-kit-train", "dev-kit-val"):
        shard(f"s/{name}-0.tar", samples(0, 1))
    found = opened(tmp_path / "s")
    assert [len(found.train), len(found.val)] == [2, 2]


def test_a_pattern_means_all_that_it_names(shard, tmp_path):
    for name in ("train", "more", "val"):
        shard(f"s/{name}-0.tar", samples(0, 1))
    assert len(opened(tmp_path / "s/{train,more}-0.tar").train) == 4
    assert len(opened(tmp_path / "s/val-*.tar").train) == 2


@pytest.mark.parametrize("pattern", ["s", "s/*.tar"])
def test_shards_for_validation_are_not_trained_on(shard, tmp_path, pattern):
    for name in ("0", "1", "val-0"):
        shard(f"s/{name}.tar", samples(0, 1))
    with pytest.raises(InputError, match=r"val-0.tar are for validation by their names, and no shard is called train"):
        opened(tmp_path / pattern)


def test_threads_read_at_once(shard):
    source = opened(shard("a.tar", samples(*([0, 1] * 20)))).train
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: source[index][0].getpixel((0, 0))[0], list(range(40)) * 5))
    assert found == list(range(40)) * 5


def test_a_shard_that_is_written_anew_is_read_anew(shard):
    path = shard("a.tar", samples(0, 1))
    first = opened(path).train
    shard("a.tar", samples(0, 1, 1))
    again = opened(path).train
    assert len(again) == 3
    assert first.stamp(0) == again.stamp(0)  # of the file as it is now
    assert first.identity(0) == again.identity(0)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"1.png": png(1), "2.png": png(1), "2.cls": b"1"},
            "'a.tar/1' has no label: it needs .cls, .json, .txt beside it",
        ),
        ({"1.cls": b"1", "2.png": png(1), "2.cls": b"1"}, "1 samples without an image: a.tar/1"),
        ({"1.png": png(1), "1.cls": b"cat"}, "'a.tar/1.cls' holds 'cat', no whole number"),
        ({"1.png": png(1), "1.json": b"{"}, "'a.tar/1.json' is no JSON"),
        ({"1.png": png(1), "1.json": b'{"a": 1}'}, "has no 'label' or 'labels', only a"),
        ({}, "no samples in a.tar"),
        (samples(1, 1), "only one class, '1'"),
    ],
)
def test_problems_with_samples(shard, members, message):
    with pytest.raises(InputError, match=message):
        opened(shard("a.tar", members))


def test_problems_with_shards(shard, tmp_path):
    path = shard("a.tar", samples(0, 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"shard '.*a.tar' cannot be read .*: copy or unpack it again"):
        opened(path)
    path.write_bytes(b"no tar file at all" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        opened(path)
    with pytest.raises(InputError, match="compressed shards cannot be read at random"):
        opened(shard("b.tar.gz", samples(0, 1)))
    with pytest.raises(InputError, match=r"no .tar files in .*, only c.tar.gz: compressed"):
        opened(shard("packed/c.tar.gz", samples(0, 1)).parent)
    with pytest.raises(InputError, match=r"shards that do not exist: .*x-1.tar, .*x-2.tar"):
        opened(tmp_path / "x-{1..2}.tar")
    path.write_bytes(whole)
    source = opened(path).train
    path.write_bytes(whole[:900])
    with pytest.raises(InputError, match="shorter than it was"):
        source[1]
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        source[1]


def test_a_file_that_is_there_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            member = tarfile.TarInfo("1.png")
            archive.addfile(member, io.BytesIO())
    with pytest.raises(InputError, match=r"holds '1.png' twice"):
        opened(tmp_path / "a.tar")


def test_an_image_that_is_none_is_named(shard):
    source = opened(shard("a.tar", samples(0, 1) | {"0000.png": b""})).train
    with pytest.raises(InputError, match=r"cannot read image 'a.tar/0000' .it has no bytes.: replace it"):
        source[0]
