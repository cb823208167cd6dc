"""Names what is on images with the program beside this file; needs JAX, flatbuffers, NumPy and Pillow.

python predict.py a.jpg b.jpg
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import jax.export
import numpy as np
from PIL import Image, ImageOps


def pixels(path: str | Path, preprocess: dict) -> np.ndarray:
    """uint8 (height, width, channels): an image as the program takes it."""
    channels, height, width = preprocess["input_size"]
    if channels not in (1, 3):
        raise SystemExit(f"this script reads images of 1 or 3 channels; give the program arrays of {channels} yourself")
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image, path)
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB") if channels == 3 else image.convert("RGB").convert("L")

    tall, wide = (math.floor(side / preprocess["crop_pct"]) for side in (height, width))
    mode, fill = preprocess["crop_mode"], (0,) * channels
    ratios = image.height / tall, image.width / wide
    if mode == "squash":
        resized = wide, tall
    elif mode == "center" and tall == wide:
        short = min(image.size)
        resized = int(wide * image.width / short), int(tall * image.height / short)
    else:
        ratio = max(ratios) if mode == "border" else min(ratios)
        resized = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    if mode == "border":
        fill = tuple(round(255 * value) for value in preprocess["mean"])
    if image.size != resized:
        image = image.resize(resized, Image.Resampling[preprocess["interpolation"].upper()])

    left, top = _start(image.width, width), _start(image.height, height)
    canvas = Image.new(image.mode, (width, height), fill if channels > 1 else fill[0])
    canvas.paste(image, (-left, -top))
    return np.asarray(canvas).reshape(height, width, channels)


def _eight_bits(image: Image.Image, path: str | Path) -> Image.Image:
    """Values up to 255 as they are; up to 4095, as 12-bit files have, without their lower 4 bits, else without 8."""
    wide = np.asarray(image)
    if wide.dtype.kind == "f" or wide.min() < 0 or wide.max() > 65535:
        raise SystemExit(f"{path} has pixels of an unknown range: save it as an 8-bit or 16-bit image")
    narrow = (wide >> (0 if wide.max() <= 255 else 4 if wide.max() <= 4095 else 8)).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        narrow = np.where(wide == clear, np.uint8(255), narrow)
    return Image.fromarray(narrow)


def _start(length: int, wanted: int) -> int:
    return round((length - wanted) / 2) if length >= wanted else -((wanted - length) // 2)


def main(paths: list[str]) -> None:
    folder = Path(__file__).parent
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    program = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    images = np.stack([pixels(path, about["preprocess"]) for path in paths])
    found = np.asarray(program.call(images))
    for path, row in zip(paths, found.tolist(), strict=True):
        best = max(range(len(row)), key=row.__getitem__)
        label = about["classes"][best] if about["classes"] and about["task"] != "regression" else None
        print(json.dumps({"path": path, "label": label, "output": row}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
