"""The generated stand-ins for MNIST and CIFAR-10: warped digits, and shapes and textures.

The same seed gives the same images.
"""

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import files
from support.data_files import warn
from support.drawing import own_settings

import numpy as np

STAND_IN_VERSION = 2  # raise it when the same seed gives other images
SHAPES = [
    "disc", "ring", "square", "triangle", "cross", "star", "moon", "stripes", "checks", "dots",
]  # fmt: skip
STAND_IN_CHUNK = 2_000  # images drawn at once
GLYPH_SIZE = 64  # rows and columns of a glyph's distance map


def generated_digits(data_dir, num_train=60_000, num_test=10_000, seed=0):
    """A stand-in for MNIST: digits drawn from the fonts that matplotlib ships, each one warped.

    Shift, rotation, scale, shear, stroke weight, elastic distortion, brightness and noise are drawn
    at random. The same seed gives the same images. Kept in data_dir/generated, if that can be
    written.
    Returns training images (num_train, 28, 28) of uint8, their labels, and the same for the test.
    """
    num = num_train + num_test
    images, labels = _generated(data_dir, "digits", draw_digits, (28, 28), num, seed)
    return images[:num_train], labels[:num_train], images[num_train:], labels[num_train:]


def generated_shapes(data_dir, num_train=50_000, num_test=10_000, seed=0):
    """A stand-in for CIFAR-10: shapes and textures in random colours, sizes and places.

    Returns training images (num_train, 3, 32, 32) of uint8, their labels, and those of the test.
    """
    num = num_train + num_test
    images, labels = _generated(data_dir, "shapes", draw_shapes, (3, 32, 32), num, seed)
    return images[:num_train], labels[:num_train], images[num_train:], labels[num_train:]


def _generated(data_dir, kind, draw, shape, num, seed):
    """draw(num, seed): images of a shape and labels; or what was kept of that."""
    path = Path(data_dir, "generated", f"{kind}_v{STAND_IN_VERSION}_{seed}_{num}.bin")
    kept = _kept(path, shape, num)
    if kept is not None:
        return kept
    print(f"drawing {num:,} {kind}")
    images, labels = draw(num, seed)
    _keep(path, images, labels)
    return images, labels


def _kept(path, shape, num):
    """The images and labels in a file; None if there is none, or with a warning if it is damaged.

    Layout: the images, a byte for each label, and the CRC-32 of all that. Nothing in it says how
    large anything is, so nothing has to be believed.
    """
    num_pixels = num * math.prod(shape)
    size = num_pixels + num + 4
    try:
        if not path.exists():
            return None
        if path.is_file() and path.stat().st_size == size:  # a pipe would make us wait for ever
            content = np.fromfile(path, np.uint8, size)
            images, labels, checksum = np.split(content, [num_pixels, num_pixels + num])
            if checksum.tobytes() == _checksum(images, labels) and labels.max() < 10:
                return images.reshape(num, *shape), labels
        warn(f"{path} is damaged; it is drawn anew")
    except (OSError, ValueError) as error:
        warn(f"{path} cannot be read: {error}; it is drawn anew")
    return None


def _checksum(images, labels):
    return zlib.crc32(labels, zlib.crc32(images.ravel())).to_bytes(4)


def _keep(path, images, labels):
    """Save images and labels for the next time, and do without where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.remove_parts(path.parent, path.name)
        with files.whole(path) as temporary, temporary.open("wb") as file:
            for part in (images, labels, _checksum(images, labels)):
                file.write(part)
    except FileNotFoundError:
        pass  # another process, which keeps the same images, took ours for those of a killed one
    except OSError as error:
        warn(f"the generated images are not kept for the next run: {error}")


def draw_digits(num, seed):
    glyphs = _glyph_distances()
    return _draw_in_chunks(num, seed, (28, 28), lambda labels, rng: _warped(glyphs, labels, rng))


def _draw_in_chunks(num, seed, shape, draw):
    """num images of a shape and their labels; each chunk has a random generator of its own, so
    that the chunks may be drawn in any order."""
    images = np.empty((num, *shape), np.uint8)
    labels = np.empty(num, np.uint8)

    def draw_chunk(start):
        chunk = slice(start, min(start + STAND_IN_CHUNK, num))
        rng = np.random.default_rng([seed, start])
        labels[chunk] = rng.integers(10, size=chunk.stop - start)
        images[chunk] = draw(labels[chunk], rng)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw_chunk, range(0, num, STAND_IN_CHUNK)))
    return images, labels


@own_settings()
def _glyph_distances():
    """The digits of each font as maps of the distance to their outline, positive inside.

    Shape: (fonts, 10, GLYPH_SIZE, GLYPH_SIZE), in units of the digit's height. From distances,
    strokes of any weight can be cut with soft edges.
    """
    from matplotlib import get_data_path
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D
    from scipy.ndimage import distance_transform_edt

    fonts = Path(get_data_path(), "fonts", "ttf")
    families = ("DejaVu[!L]*", "STIXGeneral*", "cm[brst]*")  # those that have digits
    paths = sorted(p for family in families for p in fonts.glob(f"{family}.ttf"))
    paths = [
        p for p in paths if p.stem not in ("DejaVuSansDisplay", "DejaVuSerifDisplay", "cmsy10")
    ]
    oversampling = 4
    size = GLYPH_SIZE * oversampling
    maps = np.empty((len(paths), 10, GLYPH_SIZE, GLYPH_SIZE), np.float32)
    for font_maps, path in zip(maps, paths, strict=True):
        for digit in range(10):
            outline = TextPath((0, 0), str(digit), size=100, prop=FontProperties(fname=path))
            box = outline.get_extents()
            fit = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
            fit.scale(0.6 / box.height).translate(0.5, 0.5)  # the figure is 1 wide
            canvas = FigureCanvasAgg(Figure(figsize=(size / 100, size / 100), dpi=100))
            canvas.figure.add_artist(PathPatch(fit.transform_path(outline), lw=0, fc="black"))
            canvas.draw()
            inside = np.asarray(canvas.buffer_rgba())[..., 0] < 128
            distance = distance_transform_edt(inside) - distance_transform_edt(~inside)
            blocks = distance.reshape(GLYPH_SIZE, oversampling, GLYPH_SIZE, oversampling)
            font_maps[digit] = blocks.mean(axis=(1, 3)) / (0.6 * size)
    return maps


def _warped(glyphs, labels, rng):
    """One random image for each label. Shape: (N, 28, 28) of uint8."""
    from scipy.ndimage import map_coordinates

    n = len(labels)

    def uniform(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    # Where each pixel of the image looks in the glyph, whose height is 1: the inverse of rotation,
    # scale, shear and shift, then an elastic field from a coarse grid of random displacements.
    height, width = uniform(0.5, 0.8), uniform(0.42, 0.85)
    angle, shear = rng.normal(0, 0.2, (2, n, 1, 1)).astype(np.float32)
    ticks = (np.arange(28, dtype=np.float32) - 13.5) / 28
    y = ticks[:, np.newaxis] - uniform(-0.1, 0.1)
    x = ticks[np.newaxis, :] - uniform(-0.1, 0.1)
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + shear * y
    spread = _bump_basis(5)
    elastic = spread @ rng.normal(0, 0.085, (2, n, 5, 5)).astype(np.float32) @ spread.T
    y, x = y / height + elastic[0], x / width + elastic[1]

    # The distance to the outline there, and from it the ink.
    kind = rng.integers(len(glyphs), size=n) * 10 + labels
    maps = glyphs.reshape(-1, GLYPH_SIZE, GLYPH_SIZE)
    at = [
        np.broadcast_to(kind[:, np.newaxis, np.newaxis], y.shape),
        (y * 0.6 + 0.5) * GLYPH_SIZE - 0.5,
        (x * 0.6 + 0.5) * GLYPH_SIZE - 0.5,
    ]
    distance = map_coordinates(maps, at, np.float32, order=1, mode="nearest")
    softness = uniform(0.02, 0.08)
    ink = np.clip(0.5 + (distance + uniform(-0.035, 0.06)) / softness, 0, 1)
    noise = rng.standard_normal(ink.shape, np.float32) * uniform(0, 0.12)
    image = ink * uniform(0.6, 1) + noise
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _bump_basis(num):
    """Shape (28, num): a smooth bump around each of num places, to spread a coarse field."""
    places = np.linspace(-2, 30, num)
    bumps = np.exp(-0.5 * ((np.arange(28)[:, np.newaxis] - places) / (0.6 * 32 / (num - 1))) ** 2)
    return (bumps / bumps.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_shapes(num, seed):
    return _draw_in_chunks(num, seed, (3, 32, 32), _shapes)


def _shapes(labels, rng):
    """One random image for each label: a shape or texture, another small one as a distraction, a
    bar across, and noise. Shape: (N, 3, 32, 32) of uint8.

    Most shapes are brighter than what is behind them: with contrasts of either sign alike, a small
    network does not begin to learn from a few thousand images.
    """
    n = len(labels)

    def uniform(low, high, *shape):
        return rng.uniform(low, high, (n, *(shape or (1, 1)))).astype(np.float32)

    ticks = (np.arange(32, dtype=np.float32) - 15.5) / 16
    slope = uniform(-0.3, 0.3, 3, 1, 1) * ticks + uniform(-0.3, 0.3, 3, 1, 1) * ticks[:, np.newaxis]
    image = uniform(0.1, 0.6, 3, 1, 1) + slope
    others = rng.integers(10, size=n)
    for kinds, size, reach in ((others, (0.15, 0.3), 0.9), (labels, (0.35, 0.8), 0.35)):
        angle, scale = uniform(0, 2 * np.pi), uniform(*size)
        y, x = ticks[:, np.newaxis] - uniform(-reach, reach), ticks - uniform(-reach, reach)
        u = (np.cos(angle) * x + np.sin(angle) * y) / scale
        v = (np.cos(angle) * y - np.sin(angle) * x) / scale * uniform(0.8, 1.25)
        cover = np.clip(0.5 + 8 * scale * _inside(kinds, u, v), 0, 1)[:, np.newaxis]
        color = uniform(0.4, 1, 3, 1, 1) + uniform(-0.2, 0.2, 3, 1, 1) * ticks
        image = image + cover * uniform(0.6, 1)[:, np.newaxis] * (color - image)
    bar = np.abs(ticks - uniform(-1, 1)) < uniform(0, 0.12)
    image = np.where(bar[:, np.newaxis], uniform(0, 1, 3, 1, 1), image)
    image += rng.standard_normal(image.shape, np.float32) * uniform(0, 0.15)[:, np.newaxis]
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _inside(kinds, u, v):
    """About the distance to the outline of each kind of shape of size 1, positive inside."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    short, long = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    patch = 1.2 - long
    distances = {
        "disc": 1 - r,
        "ring": 0.25 - abs(r - 0.75),
        "square": 0.85 - long,
        "triangle": np.minimum(0.6 + v, 0.5 - 0.5 * v - 0.87 * abs(u)),
        "cross": np.minimum(0.28 - short, 1 - long),
        "star": 0.65 + 0.35 * np.cos(5 * angle) - r,
        "moon": np.minimum(1 - r, np.hypot(u - 0.5, v) - 0.8),
        "stripes": np.minimum(np.cos(7 * u) / 4, patch),
        "checks": np.minimum(np.sin(5 * u) * np.sin(5 * v) / 3, patch),
        "dots": np.minimum((np.cos(7 * u) + np.cos(7 * v) - 0.6) / 4, patch),
    }
    return np.stack([distances[name] for name in SHAPES])[kinds, np.arange(len(kinds))]
