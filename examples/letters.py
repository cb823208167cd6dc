"""Printed letters that look like small handwriting: an endless, labelled data set from the fonts matplotlib installs.

    python examples/letters.py letters.png     # look at a hundred of them

Every glyph is kept as two distance fields, one to its outline and one to its centre line, so a stroke of any thickness
with a soft or a hard edge is one comparison, and a rotation or a wave is one resampling. The pictures are drawn at a
low resolution (8 to 32 pixels) and enlarged bicubically, as small scans of handwriting are.
"""

import string
import sys
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

CLASSES = tuple(string.ascii_uppercase + string.ascii_lowercase)
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmti10", "cmmi10", "cmss10", "cmtt10"),
)

# A glyph lives in a square canvas of CANVAS pixels that spans [-EXTENT, EXTENT]; the glyph is two units high.
CANVAS, EXTENT = 80, 1.6
HULL_DIRECTIONS = 48
WAVES = 128
GRAINS = 256
RESOLUTIONS = (8, 9, 10, 11, 12, 14, 16, 20, 24, 32)
RESOLUTION_WEIGHTS = (0.40, 0.09, 0.09, 0.06, 0.08, 0.06, 0.08, 0.05, 0.04, 0.05)
GREY_LEVELS = 16
INK_SHARES = (0.20, 0.36)  # of the frame: strokes are made thicker or thinner to stay between them

# The random numbers of one picture, by name.
DRAWS = (
    *("letter", "font", "pen", "rotation", "shear", "stretch", "height", "shift_x", "shift_y", "thickness", "edge"),
    *("wave", "wave_2", "amplitude", "resolution", "peak", "gamma", "quantised", "noise", "grain"),
)


class Letters:
    """An endless data set of letters; picture `i` is a function of `(seed, i)` alone.

    Args:
        seed: chooses the sequence.
        size: height and width of the pictures, in pixels.
        variation: 1 for the full range of distortions, 0 for upright, sharp, evenly lit letters.

    Example:
        >>> images, labels = Letters(seed=0).batch(range(5))
        >>> images.shape, images.dtype, labels.shape, labels.dtype
        ((5, 32, 32, 1), dtype('uint8'), (5,), dtype('int32'))
    """

    classes = CLASSES

    def __init__(self, seed: int = 0, size: int = 32, variation: float = 1.0):
        self.seed, self.size, self.variation = seed, size, variation

    def batch(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """The pictures `uint8 [n, size, size, 1]`, white on black, and the classes `int32 [n]` at these indices."""
        bits = np.random.Philox(key=self.seed)
        rng, start = np.random.Generator(bits), bits.state
        numbers = []
        for index in indices:
            start["state"]["key"] = np.array([self.seed, index], np.uint64)
            bits.state = start
            numbers.append(rng.random(len(DRAWS), dtype=np.float32))
        return _pictures(np.stack(numbers, axis=1), self.size, self.variation)


def render(rng: np.random.Generator, size: int = 32, variation: float = 1.0) -> tuple[np.ndarray, int]:
    """One random letter: the picture `uint8 [size, size]`, white on black, and its class, an index into `CLASSES`."""
    images, labels = _pictures(rng.random((len(DRAWS), 1), dtype=np.float32), size, variation)
    return images[0, :, :, 0], int(labels[0])


def glyph(font: int, letter: int, size: int = 32) -> np.ndarray:
    """A letter of a font as it is printed, upright and undistorted: `uint8 [size, size]`."""
    numbers = np.full((len(DRAWS), 1), 0.5, np.float32)
    numbers[DRAWS.index("font")] = (font + 0.5) / len(FONTS)
    numbers[DRAWS.index("letter")] = (letter + 0.5) / len(CLASSES)
    return _pictures(numbers, size, variation=0.0)[0][0, :, :, 0]


def _pictures(numbers: np.ndarray, size: int, variation: float) -> tuple[np.ndarray, np.ndarray]:
    """From uniform random numbers `[len(DRAWS), n]` to the pictures and their labels."""
    draws = dict(zip(DRAWS, numbers, strict=True))

    def between(name: str, low: float, high: float, power: float = 1.0) -> np.ndarray:
        """The number in [low, high]; less variation draws it to the middle."""
        spread = (2 * draws[name] - 1) * variation
        return (low + high) / 2 + (high - low) / 2 * np.sign(spread) * np.abs(spread) ** power

    labels = (draws["letter"] * len(CLASSES)).astype(np.int32)
    fonts = (draws["font"] * len(FONTS)).astype(np.int32)
    pen = (draws["pen"] < 0.8 * variation).astype(np.int32)
    fields, hulls = _glyphs()

    # Glyph to frame: rotate, shear and stretch; then scale and move so that the outcome fills the frame like a scan.
    angle = np.deg2rad(between("rotation", -22, 22, power=1.5))
    shear = between("shear", -0.35, 0.35, power=1.5)
    stretch = np.exp(between("stretch", -0.35, 0.35))
    cos, sin = np.cos(angle), np.sin(angle)
    forward = np.stack([cos * stretch, cos * shear - sin, sin * stretch, sin * shear + cos], axis=-1).reshape(-1, 2, 2)
    corners = hulls[fonts, labels] @ forward.transpose(0, 2, 1)
    low, high = corners.min(axis=1), corners.max(axis=1)
    half = np.maximum((high - low) / 2, 1e-3)
    thickness = between("thickness", 0.10, 0.28)
    room = np.stack([np.full_like(thickness, 0.86), between("height", 0.90, 1.06)], axis=-1)
    room = room - np.where(pen, thickness, 0.0)[:, None]
    scale_y = room[:, 1] / half[:, 1]
    scale = np.stack([np.minimum(scale_y, room[:, 0] / half[:, 0]), scale_y], axis=-1)
    shift = np.stack([between("shift_x", -0.12, 0.12), between("shift_y", -0.04, 0.04)], axis=-1)

    # The way back, for every pixel of a fine grid: frame to glyph, with a wave.
    fine = size * 5 // 4
    waves = _waves(fine)
    amplitude = between("amplitude", 0.0, 0.13) if variation else np.zeros_like(thickness)
    grid = _grid(fine) + _displacement(waves, draws, amplitude)
    backward = np.linalg.inv(forward * scale[:, :, None]).astype(np.float32)
    offset = ((low + high) / 2 * scale + shift).astype(np.float32)
    points = (grid - offset[:, None, :]) @ backward.transpose(0, 2, 1)
    distance = _sample(fields, (fonts * len(CLASSES) + labels) * 2 + pen, points)
    distance *= (np.sqrt(np.abs(np.linalg.det(forward)) * scale.prod(axis=-1)))[:, None]

    boldness = between("thickness", -0.05, 0.10) if variation else np.zeros_like(thickness)
    reach = np.where(pen, thickness, boldness)
    if variation:
        reach = np.clip(reach, *_reach_of_ink(distance, *INK_SHARES))
    edge = between("edge", 0.04, 0.20)
    ink = np.clip(0.5 + (reach[:, None] - distance) / edge[:, None], 0, 1).reshape(-1, fine, fine)
    return _scan(ink, draws, size, variation), labels


def _displacement(waves: np.ndarray, draws: dict[str, np.ndarray], amplitude: np.ndarray) -> np.ndarray:
    """A smooth random displacement `[n, points, 2]` of the given amplitude: the mean of two fields of the bank."""
    first, second = ((draws[name] * WAVES).astype(np.int32) for name in ("wave", "wave_2"))
    return (waves[first] + waves[second]) * (amplitude / np.float32(2**0.5))[:, None, None].astype(np.float32)


def _scan(ink: np.ndarray, draws: dict[str, np.ndarray], size: int, variation: float) -> np.ndarray:
    """Ink `[n, fine, fine]` seen at a drawn resolution, with its grey levels and noise, enlarged to `size`."""
    if variation:
        chosen = np.searchsorted(np.cumsum(RESOLUTION_WEIGHTS)[:-1], draws["resolution"], side="right")
    else:
        chosen = np.full(len(ink), len(RESOLUTIONS) - 1)
    down, up = _resizers(ink.shape[-1], size)
    small = down[chosen] @ ink @ down[chosen].transpose(0, 2, 1)
    peak = 1 - 0.25 * variation * draws["peak"] ** 3
    gamma = np.exp(variation * (0.7 * draws["gamma"] - 0.4))
    small = peak[:, None, None] * np.clip(small, 0, 1) ** gamma[:, None, None]
    strength = (0.08 * variation * draws["noise"] ** 2).astype(np.float32)
    grain = _grains()[(draws["grain"] * GRAINS).astype(np.int32)]
    small = np.clip(small + grain * strength[:, None, None], 0, 1)
    steps = np.where(draws["quantised"] < 0.5, GREY_LEVELS, 255).astype(np.float32)[:, None, None]
    small = np.round(small * steps) / steps
    image = up[chosen] @ small @ up[chosen].transpose(0, 2, 1)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., None]


def _sample(fields: np.ndarray, which: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values `[n, points]` of `fields[which]` at glyph coordinates `[n, points, 2]` (x, y)."""
    position = np.clip((points / EXTENT + 1) * (CANVAS / 2) - 0.5, 0, CANVAS - 1.001)
    corner = position.astype(np.int32)
    x, y = np.moveaxis(position - corner.astype(np.float32), -1, 0)
    flat = fields.reshape(-1)
    index = which[:, None] * (CANVAS * CANVAS) + corner[..., 1] * CANVAS + corner[..., 0]
    top = flat[index] * (1 - x) + flat[index + 1] * x
    bottom = flat[index + CANVAS] * (1 - x) + flat[index + CANVAS + 1] * x
    return top * (1 - y) + bottom * y


def _reach_of_ink(distance: np.ndarray, *shares: float) -> list[np.ndarray]:
    """How far the stroke must reach `[n]` from its outline or centre line to cover each share of the frame."""
    sample = np.sort(distance[:, ::7], axis=1)
    return [sample[:, int(share * sample.shape[1])] for share in shares]


@cache
def _grid(fine: int) -> np.ndarray:
    """The pixel centres `[fine * fine, 2]` (x, y) of a frame that spans [-1, 1]."""
    centres = (np.arange(fine, dtype=np.float32) + 0.5) / fine * 2 - 1
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


@cache
def _waves(fine: int) -> np.ndarray:
    """A bank of smooth displacement fields `[WAVES, fine * fine, 2]` of unit variance."""
    white = np.random.default_rng(0).standard_normal((WAVES, fine, fine, 2))
    sigma = np.linspace(0.10, 0.22, WAVES) * fine
    smooth = np.stack(
        [ndimage.gaussian_filter(field, (s, s, 0), mode="wrap") for field, s in zip(white, sigma, strict=True)]
    )
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    return smooth.reshape(WAVES, -1, 2).astype(np.float32)


@cache
def _grains() -> np.ndarray:
    """A bank of white noise `[GRAINS, 32, 32]` of unit variance."""
    finest = max(RESOLUTIONS)
    return np.random.default_rng(1).standard_normal((GRAINS, finest, finest), dtype=np.float32)


@cache
def _resizers(fine: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's filters as matrices: box from `fine` to each resolution, bicubic from there to `size`."""
    finest = max(RESOLUTIONS)
    down = np.zeros((len(RESOLUTIONS), finest, fine), np.float32)
    up = np.zeros((len(RESOLUTIONS), size, finest), np.float32)
    for i, resolution in enumerate(RESOLUTIONS):
        down[i, :resolution] = _filter_matrix(fine, resolution, Image.Resampling.BOX)
        up[i, :, :resolution] = _filter_matrix(resolution, size, Image.Resampling.BICUBIC)
    return down, up


def _filter_matrix(source: int, target: int, method: Image.Resampling) -> np.ndarray:
    identity = Image.fromarray(np.eye(source, dtype=np.float32))
    return np.asarray(identity.resize((source, target), method))


@cache
def _glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Distance fields `[font * letter * 2, CANVAS, CANVAS]`: to the outline (negative inside), to the centre line.

    With them the hull `[font, letter, HULL_DIRECTIONS, 2]` of each glyph: its farthest points, for fitting it.
    """
    shapes = np.stack([_raster(font, letter) for font in FONTS for letter in CLASSES])
    unit = 2 * EXTENT / CANVAS
    outline = [ndimage.distance_transform_edt(~shape) - ndimage.distance_transform_edt(shape) for shape in shapes]
    centre = [ndimage.distance_transform_edt(~line) for line in _thin(shapes)]
    fields = np.stack([np.stack(outline), np.stack(centre)], axis=1).reshape(-1, CANVAS, CANVAS)
    fields = ndimage.gaussian_filter(fields, (0, 0.7, 0.7)) * unit
    turns = np.linspace(0, 2 * np.pi, HULL_DIRECTIONS, endpoint=False)
    directions = np.stack([np.cos(turns), np.sin(turns)])
    hulls = []
    for shape in shapes:
        points = (np.argwhere(shape)[:, ::-1] + 0.5) * unit - EXTENT
        hulls.append(points[(points @ directions).argmax(axis=0)])
    return fields.astype(np.float32), np.stack(hulls).reshape(len(FONTS), len(CLASSES), -1, 2).astype(np.float32)


def _raster(font: str, letter: str) -> np.ndarray:
    """The filled glyph, bool `[CANVAS, CANVAS]`: two units high, centred, at most 1.2 times as wide as high."""
    face = _face(font)
    left, top, right, bottom = face.getbbox(letter)
    large = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(large).text((-left, -top), letter, fill=255, font=face)
    large = large.crop(large.getbbox())
    height = round(CANVAS / EXTENT)
    width = min(max(round(large.width * height / large.height), 1), round(1.2 * height))
    canvas = Image.new("L", (CANVAS, CANVAS))
    fitted = large.resize((width, height), Image.Resampling.BOX)
    canvas.paste(fitted, ((CANVAS - width) // 2, (CANVAS - height) // 2))
    return np.asarray(canvas) > 127


@cache
def _face(font: str) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{font}.ttf"), 200, layout_engine=ImageFont.Layout.BASIC)


def _thin(shapes: np.ndarray) -> np.ndarray:
    """Centre lines, one pixel wide, of bool `[n, height, width]` (Zhang and Suen, CACM 27(3), 1984)."""
    ring = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # clockwise from the pixel above
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    rises = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(axis=1)
    edge = (bits.sum(axis=1) >= 2) & (bits.sum(axis=1) <= 6) & (rises == 1)
    north, east, south, west = bits[:, 0], bits[:, 2], bits[:, 4], bits[:, 6]
    removable = (
        edge & (north * east * south == 0) & (east * south * west == 0),
        edge & (north * east * west == 0) & (north * south * west == 0),
    )
    line = shapes.astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for table in removable:
            code = np.zeros_like(line)
            for bit, (down, right) in enumerate(ring):
                code |= np.roll(line, (-down, -right), axis=(1, 2)) << bit
            remove = (line == 1) & table[code]
            line[remove] = 0
            changed |= bool(remove.any())
    return line.astype(bool)


def contact_sheet(images: np.ndarray, columns: int = 10, zoom: int = 2, gap: int = 2) -> Image.Image:
    """Pictures `uint8 [n, size, size, 1]` side by side, row by row."""
    size = images.shape[1]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (size + gap) + gap, columns * (size + gap) + gap), 90, np.uint8)
    for i, image in enumerate(images[..., 0]):
        top, left = (gap + place * (size + gap) for place in divmod(i, columns))
        sheet[top : top + size, left : left + size] = image
    return Image.fromarray(sheet).resize((sheet.shape[1] * zoom, sheet.shape[0] * zoom), Image.Resampling.NEAREST)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise SystemExit("usage: python examples/letters.py OUT.png")
    images, labels = Letters(seed=0).batch(range(100))
    contact_sheet(images).save(arguments[0])
    for row in labels.reshape(10, 10):
        print(" ".join(CLASSES[label] for label in row))


if __name__ == "__main__":
    main(sys.argv[1:])
