"""Tables of images: CSV and Parquet, their columns, and what is said when something is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtl.data.csv_file import read_csv
from jaxtl.data.open import open_data
from jaxtl.errors import InputError


@pytest.fixture
def table(tmp_path) -> Callable[[str], str]:
    """Writes a CSV file beside six images, 0.png to 5.png, and gives its spec."""
    for index in range(6):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index}.png")

    def write(text: str | bytes, name: str = "labels.csv") -> str:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"csv:{tmp_path / name}"

    return write


TWO_CLASSES = "path,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n"


@pytest.mark.parametrize(
    "text",
    [
        TWO_CLASSES,
        TWO_CLASSES.replace(",", ";"),
        TWO_CLASSES.replace(",", "\t"),
        TWO_CLASSES.replace("\n", "\r\n").encode("utf-8-sig"),
        "Filename,Class\n\n" + TWO_CLASSES.partition("\n")[2] + "\n",
        ',path,label\n0,0.png,a\n1,"1.png",b\n2,./2.png, a\n3,3.png,b \n',
    ],
)
def test_delimiters_marks_quotes_and_usual_names(table, small, text):
    data = open_data(table(text), small)
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.val)) == (2, 2)
    assert {*data.train.names, *data.val.names} == {f"{index}.png" for index in range(4)}


def test_absolute_paths_below_the_table_are_those_from_it_on(table, small, tmp_path):
    absolute = table(TWO_CLASSES.replace("\n", f"\n{tmp_path}/").removesuffix(f"{tmp_path}/"), "absolute.csv")
    data, ours = open_data(absolute, small), open_data(table(TWO_CLASSES), small)
    assert (data.train.names, data.val.names) == (ours.train.names, ours.val.names)
    assert data.fingerprint == ours.fingerprint
    spec = table(TWO_CLASSES + f"{tmp_path}/0.png,a\n{tmp_path}/../elsewhere/../{tmp_path.name}/1.png,b\n")
    assert "2 images are there more than once: 0.png, 1.png; give" in refusal(lambda: open_data(spec, small))


def test_a_file_outside_is_one_however_its_path_is_written(table, small, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path.parent / f"{tmp_path.name}.png")
    outside = f"{tmp_path.name}.png"
    spec = table(TWO_CLASSES + f"../{outside},a\n{tmp_path.parent}/{outside},b\n")
    assert f"1 images are there more than once: {tmp_path.parent}/{outside}; give" in refusal(
        lambda: open_data(spec, small)
    )


def test_a_column_of_splits(table, small):
    rows = [f"{i}.png,{'ab'[i % 2]},{s}" for i, s in enumerate(["train", "Train", "val", "val", "test", "test"])]
    data = open_data(table("path,label,split\n" + "\n".join(rows)), small)
    assert (data.train.names, data.val.names) == (["0.png", "1.png"], ["2.png", "3.png"])
    assert data.split == "column 'split'"
    assert data.notes == ("split not used: test (2 images)",)


def test_several_labels_and_numbers(table, small):
    rows = [f"{i}.png,{'sun;sea' if i % 2 else 'sun'},{i / 2},{i}" for i in range(6)]
    spec = table("path,tags,age,size\n" + "\n".join(rows))
    tags = open_data(spec, small)
    assert (tags.task, tags.classes) == ("multi-label", ("sea", "sun"))
    assert (len(tags.train), len(tags.val)) == (5, 1)
    assert "2 labels: sea, sun" in tags.describe()
    assert tags.record()["task"] == "multi-label"
    numbers = open_data(spec, small, label_column=["size", "age"])
    assert (numbers.task, numbers.classes) == ("regression", ("size", "age"))
    batch = next(numbers.eval_batches(2, split="train"))
    assert batch["label"].dtype == np.float32
    first = int(numbers.train.names[0][0])
    assert batch["label"][0].tolist() == [first, first / 2]
    assert len({data.fingerprint for data in (tags, numbers, open_data(spec, small, label_column="age"))}) == 3
    assert len(open_data(spec, small, train_samples=3).train) == 3
    with pytest.raises(InputError, match="samples_per_class is for one class an image"):
        open_data(spec, small, samples_per_class=1)


def test_groups_stay_together(table, small):
    rows = [f"{i}.png,{'ab'[i % 2]},{'xyz'[i // 2]}" for i in range(6)]
    data = open_data(table("path,label,patient\n" + "\n".join(rows)), small, group_column="patient")
    assert len(data.val) == 2
    assert int(data.val.names[0][0]) // 2 == int(data.val.names[1][0]) // 2
    assert data.split == "20% held out by 3 groups, seed 0"


def test_a_file_must_not_part_groups(table, small, tmp_path):
    rows = [f"{i}.png,{'ab'[i % 2]},{'xyz'[i // 2]},{'train' if i < 4 else 'val'}" for i in range(6)]
    spec = table("path,label,patient,split\n" + "\n".join(rows))
    names = [f"{i}.png" for i in range(6)]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": names[:2] + names[4:5], "val": names[2:4] + names[5:]}))
    assert len(open_data(spec, small, split_file=split).train) == 3
    said = refusal(lambda: open_data(spec, small, split_file=split, group_column="patient"))
    assert said == f"{split}: groups on both sides of its split: z; correct the split, or name no group_column"
    split.write_text(json.dumps({"train": names[:2], "val": names[4:]}))
    assert open_data(spec, small, split_file=split, group_column="patient").val.names == names[4:]


def test_a_column_called_group_counts_unless_the_data_has_a_split(table, small):
    rows = [f"{i}.png,{'ab'[i % 2]},{'xyz'[i // 2]}" for i in range(6)]
    assert "by 3 groups" in open_data(table("path,label,group\n" + "\n".join(rows)), small).split
    split = [f"{row},{'train' if i < 3 else 'val'}" for i, row in enumerate(rows)]
    assert len(open_data(table("path,label,group,split\n" + "\n".join(split)), small).val) == 3


def test_a_parquet_file_gives_what_the_csv_file_gives(table, small, tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {"path": [f"{i}.png" for i in range(6)], "label": [0, 1, 0, 1, 0, 1], "age": [0.5] * 6}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    spec = f"parquet:{tmp_path / 'labels.parquet'}"
    ours = open_data(table("path,label\n" + "\n".join(f"{i}.png,{i % 2}" for i in range(6))), small)
    data = open_data(spec, small)
    assert data.fingerprint == ours.fingerprint
    assert open_data(spec, small, label_column="age").task == "regression"
    with pytest.raises(InputError, match=r"no column 'lable'; did you mean 'label'"):
        open_data(spec, small, label_column="lable")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty: its first line names the columns"),
        ("path,label\n", {}, "it has no rows"),
        ("path,kind\n0.png,a\n", {}, "no column for label_column: name one of 'path', 'kind'"),
        ("path,file,label\n", {}, "path_column could be 'path' or 'file': say which"),
        ("path,label,label\n", {}, "columns of the same name: 'label'"),
        (TWO_CLASSES, {"label_column": "labels"}, "label_column: there is no column 'labels'; did you mean 'label'?"),
        (TWO_CLASSES, {"group_column": "who"}, "group_column: there is no column 'who'; there are 'path', 'label'"),
        ("path,label\n0.png,a,b\n1.png\n", {}, "not 2 cells, as the first line has, in line 2, 3: quote"),
        (TWO_CLASSES.replace("2.png,a", "2.png,"), {}, "'label' is empty in line 4"),
        (TWO_CLASSES.replace("2.png,a", ",a"), {}, "'path' is empty in line 4"),
        (TWO_CLASSES.replace("1.png", "0.png"), {}, "1 images are there more than once: 0.png; give each one row"),
        (TWO_CLASSES.replace("b\n", "a\n"), {}, "only one class, 'a': at least two are needed"),
        ("path,age\n0.png,1.5\n1.png,nan\n", {"label_column": "age"}, "'age' holds no finite number ('nan') in line 3"),
        (
            "path,label,split\n0.png,a,train\n1.png,b,train\n2.png,c,val\n",
            {},
            "classes of validation images that training lacks: 'c'",
        ),
        ("path,label,split\n0.png,a,trian\n1.png,b,val\n", {}, "holds what is no split, 'trian'; did you mean 'train'"),
        ("path,label,split\n0.png,a,val\n1.png,b,val\n", {}, "'split' names no image 'train'"),
        ("path,label,split\n0.png,a,train\n1.png,b,\n", {}, "'split' is empty in line 3"),
        (
            "path,label,split,who\n0.png,a,train,x\n1.png,b,train,y\n2.png,a,val,x\n",
            {"group_column": "who"},
            "groups on both sides of its split: x",
        ),
        ("path,label\n0.png,\xff\n".encode("latin-1"), {}, "is not UTF-8"),
        ('path,label\n"0.png,a\n', {}, "line 2: unexpected end of data"),
        (TWO_CLASSES, {"value_range": (0, 1)}, "value_range means nothing for"),
    ],
)
def test_problems(table, small, text, options, message):
    spec = table(text)
    said = refusal(lambda: open_data(spec, small, **options))
    assert message in said
    assert spec.partition(":")[2] in said


def test_missing_images_are_listed_with_all_other_problems(table, small):
    rows = [f"no{i:02d}.png,a" for i in range(14)]
    said = refusal(lambda: open_data(table("path,label\n,b\n" + "\n".join([*rows, "0.png,"])), small))
    assert said.startswith("3 problems with ")
    assert "14 images do not exist, paths being relative to" in said
    assert "'no00.png' (line 3)" in said
    assert "'no09.png' (line 12) and 4 more; correct the paths or remove the rows" in said
    assert "'path' is empty in line 2" in said
    assert "'label' is empty in line 17" in said


def test_files_that_are_not_there(table, small, tmp_path):
    table(TWO_CLASSES)
    assert "did you mean 'labels.csv'" in refusal(lambda: open_data(f"csv:{tmp_path}/label.csv", small))
    assert "did you mean 'labels.csv'" in refusal(lambda: open_data(f"parquet:{tmp_path}/label.csv", small))
    assert "cannot be read as Parquet" in refusal(lambda: open_data(f"parquet:{tmp_path}/labels.csv", small))


def test_images_inside_a_parquet_file_are_for_hf(small, tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {"image": [{"bytes": b"x", "path": "a"}] * 2, "label": [0, 1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert "read by 'hf:PATH'" in refusal(lambda: open_data(f"parquet:{tmp_path / 'a.parquet'}", small))


@pytest.mark.parametrize(
    ("package", "spec", "extra"),
    [("pyarrow", "parquet:a", "parquet"), ("tensorflow_datasets", "tfds:a", "tfds"), ("datasets", "hf:a", "hf")],
)
def test_a_missing_package_says_what_to_install(small, monkeypatch, package, spec, extra):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'jaxtl[{extra}]'" in refusal(lambda: open_data(spec, small))


def test_a_cell_may_hold_lines_and_other_delimiters(tmp_path):
    path = Path(tmp_path, "a.csv")
    path.write_text('path;label\n"a;b.png";"two\nlines, one cell"\nc.png;"x\u2028y"\n')
    found = read_csv(path)
    assert found.columns == {"path": ["a;b.png", "c.png"], "label": ["two\nlines, one cell", "x\u2028y"]}
    assert found.row(1) == "line 4"
