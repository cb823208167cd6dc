"""The same 50 images and labels, written in the form of every source."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 50
CLASSES = ("ant", "bee", "cat")
LABELS = [index * 7 % 3 for index in range(COUNT)]
NAMES = [f"image{index:02d}" for index in range(COUNT)]


def pixels() -> np.ndarray:
    """uint8 (50, 20, 24, 3)."""
    return np.random.default_rng(0).integers(0, 256, (COUNT, 20, 24, 3), dtype=np.uint8)


def encoded() -> list[bytes]:
    """The files, as PNG."""
    found = []
    for image in pixels():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        found.append(file.getvalue())
    return found


def as_files(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    for name, data in zip(NAMES, encoded(), strict=True):
        (root / "images" / f"{name}.png").write_bytes(data)
    return root


def as_csv(root: Path) -> str:
    as_files(root)
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"images/{name}.png", CLASSES[label]] for name, label in zip(NAMES, LABELS, strict=True))
    return f"csv:{root / 'labels.csv'}"


def as_csv_of_files_elsewhere(root: Path) -> str:
    as_files(root)
    (root / "tables").mkdir()
    rows = [f"{root}/images/{name}.png,{CLASSES[label]}" for name, label in zip(NAMES, LABELS, strict=True)]
    (root / "tables" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return f"csv:{root / 'tables' / 'labels.csv'}"


def as_parquet(root: Path) -> str:
    import pyarrow
    import pyarrow.parquet

    as_files(root)
    columns = {"file_name": [f"images/{name}.png" for name in NAMES], "label": [CLASSES[label] for label in LABELS]}
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "labels.parquet")
    return f"parquet:{root / 'labels.parquet'}"


def as_npz(root: Path) -> str:
    root.mkdir(parents=True)
    np.savez(root / "all.npz", images=pixels(), labels=np.array(LABELS), classes=np.array(CLASSES))
    return f"arrays:{root / 'all.npz'}"


def as_npy(root: Path) -> str:
    root.mkdir(parents=True)
    for name, array in (("x", pixels()), ("y", np.array([CLASSES[label] for label in LABELS]))):
        np.save(root / f"{name}.npy", array)
    return f"arrays:{root}"


def as_tar(root: Path) -> str:
    root.mkdir(parents=True)
    data = encoded()
    for shard in range(2):
        with tarfile.open(root / f"all-{shard:03d}.tar", "w") as archive:
            for index in range(shard * 25, shard * 25 + 25):
                label = json.dumps({"label": CLASSES[LABELS[index]]}).encode()
                for name, content in ((f"{NAMES[index]}.png", data[index]), (f"{NAMES[index]}.json", label)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return f"tar:{root}/all-{{000..001}}.tar"


def as_tfds(root: Path) -> str:
    import tensorflow_datasets as tfds

    data = encoded()

    class FiftyImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "day": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index, label in enumerate(LABELS):
                yield index, {"image": io.BytesIO(data[index]), "label": label, "day": f"day {index % 10}"}

    builder = FiftyImages(data_dir=root, file_format="array_record")
    builder.download_and_prepare()
    return f"tfds:{builder.data_path}"


def as_hf(root: Path) -> str:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    images = [{"bytes": data, "path": None} for data in encoded()]
    datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features).save_to_disk(root)
    return f"hf:{root}"


def as_folder(root: Path) -> str:
    for name, data, label in zip(NAMES, encoded(), LABELS, strict=True):
        (root / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        (root / CLASSES[label] / f"{name}.png").write_bytes(data)
    return f"folder:{root}"


FORMS = {
    "folder": as_folder,
    "csv": as_csv,
    "csv of files elsewhere": as_csv_of_files_elsewhere,
    "parquet": as_parquet,
    "npz": as_npz,
    "npy": as_npy,
    "tar": as_tar,
    "tfds": as_tfds,
    "hf": as_hf,
}
