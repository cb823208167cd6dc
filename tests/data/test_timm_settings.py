"""Every preprocessing among the pretrained tags, on photographs, against timm's own evaluation transform."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from families import rotating
from local_files import shared
from PIL import Image
from timm_guest import import_timm

from jaxtl.data.images import read_image
from jaxtl.data.preprocess import Preprocess
from jaxtl.pretrained import tags

A_DAY = 4
EQUAL = 0.999  # of all values; the others may differ by 1 of 255


def distinct() -> dict[Preprocess, str]:
    """Each preprocessing that occurs, and the first tag that has it."""
    found: dict[Preprocess, str] = {}
    for name in tags.list_models():
        tag = tags.find(name)
        if tag.tag is not None:
            found.setdefault(Preprocess.from_dict(tag.preprocess_dict()), name)
    return found


@functools.cache
def photographs() -> list[Image.Image]:
    """Twenty, eight of them cut to odd, narrow or tiny sizes; files that timm would leave on their side are not among
    them, since jaxtl turns them upright."""
    flowers = sorted(shared("data/flowers").glob("val/*/*.jpg"))[::62][:12]
    insects = sorted(shared("data/hymenoptera").glob("val/*/*.jpg"))[::19][:8]
    images = [read_image(path) for path in flowers + insects]
    for path, image in zip(flowers + insects, images, strict=True):
        with Image.open(path) as opened:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(opened.convert("RGB")), err_msg=str(path))
    boxes = [(0, 0, 251, 333), (1, 1, 300, 200), (5, 0, 66, 211), (0, 7, 233, 48), (3, 3, 38, 30), (0, 0, 257, 256)]
    boxes += [(0, 0, 1, 90), (9, 9, 208, 208)]
    return [image.crop(box) for image, box in zip(images, boxes, strict=False)] + images[len(boxes) :]


def compared(preprocess: Preprocess, name: str, images: list[Image.Image]) -> tuple[float, float]:
    """The largest difference to timm, in levels of 255, and the share of equal values."""
    timm = import_timm()
    config = preprocess.to_dict()
    if name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config), is_training=False)
    largest, equal, count = 0.0, 0, 0
    for image in images:
        image = image if preprocess.channels == 3 else image.convert("L")
        ours = (preprocess(image).astype(np.float32) / 255 - np.float32(preprocess.mean)) / np.float32(preprocess.std)
        theirs = transform(image).permute(1, 2, 0).numpy()
        assert ours.shape == theirs.shape, name
        levels = np.abs(ours - theirs) * np.float32(preprocess.std) * 255
        largest = max(largest, float(levels.max()))
        equal += int((levels < 1e-3).sum())
        count += levels.size
    return largest, equal / count


NAMES = {name: preprocess for preprocess, name in distinct().items()}


@pytest.mark.parametrize("name", rotating(NAMES, A_DAY, always=(distinct()[Preprocess(224)],)))
def test_equals_timm_on_photographs(name):
    largest, equal = compared(NAMES[name], name, photographs())
    assert largest <= 1 + 1e-3
    assert equal >= EQUAL


def test_there_are_dozens_of_settings():
    assert len(NAMES) > 50
