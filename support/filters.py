"""Filters as pictures: tiles on white, in colours that mean the same in every picture.

The scale is symmetric: zero is always its middle. Filters of one channel are blue where they are
negative, grey at zero and orange where they are positive. Filters of three channels, red, green and
blue, stay in colour: zero is mid-grey, the scale's lower end is black and its upper end white in
each of the three. Of all others every channel becomes a tile, a row a filter.
F filters, C channels, k x k weights.
"""

from functools import cache, lru_cache

from support import drawing

import numpy as np

TILE = 80  # screen pixels of a filter's side at least: no viewer's smoothing can blur its weights
GAP = 6  # white pixels beside a tile
NUMBER = 14  # white pixels above it, for the filter's number
BAR = 74  # white pixels to the right, for the scale
LINE = 18  # of a line of text
COLUMNS = 8
# places on the scale and their colours: blue and orange differ for colour-blind eyes, too, and the
# steep middle lets weights be seen that are small beside the largest
DIVERGING = [(0, "#06245f"), (0.3, "#2a74d4"), (0.5, "#d6d6d6"), (0.7, "#e06a12"), (1, "#611700")]


def scale_limit(*weights):
    """The upper end of a symmetric scale for all these arrays, a round number: as the weights
    change a little, the scale stays.
    """
    drawing.import_matplotlib()
    from matplotlib.ticker import MaxNLocator

    largest = max(np.abs(_finite(part)).max(initial=0) for part in weights)
    if largest == 0:
        return 1.0
    return float(MaxNLocator(8, symmetric=True).tick_values(-largest, largest)[-1])


def filter_mosaic(weights, limit):
    """All filters side by side, each weight a square of many pixels. limit: see scale_limit.

    Shapes: weights (F, C, k, k) -> (rows, columns, 3) of uint8.
    Raises: ValueError for another rank.
    """
    from skimage.util import montage

    weights = _finite(weights)
    if weights.ndim != 4:
        raise ValueError(f"expected weights of shape (F, C, k, k), got {weights.shape}")
    shares = np.clip(weights / (2 * limit) + 0.5, 0, 1)  # 0.5 is zero
    tiles = shares.transpose(0, 2, 3, 1)
    if not _is_coloured(weights.shape):
        tiles = _color_map(False)(shares.reshape(-1, *shares.shape[2:]))[..., :3]
    zoom = -(-TILE // max(weights.shape[2:]))
    tiles = np.rint(255 * tiles).astype(np.uint8).repeat(zoom, 1).repeat(zoom, 2)
    tiles = np.pad(tiles, ((0, 0), (NUMBER, 0), (0, GAP), (0, 0)), constant_values=255)
    columns = _columns(weights.shape)
    rows = -(-len(tiles) // columns)
    return montage(tiles, grid_shape=(rows, columns), fill=[255] * 3, channel_axis=3)


def show_filters(axes, weights, limit, title=None, fontsize=8):
    """The mosaic with the filters' numbers, those of weights[0], weights[1] ..., and its scale."""
    mosaic = _show_mosaic(axes, weights, limit, fontsize)
    axes.set_title(title)
    below = NUMBER / len(mosaic)
    _add_bar(axes.inset_axes([1.01, 0, 0.018, 1 - below]), weights.shape, limit)
    if _is_coloured(weights.shape):
        said = _meaning(limit)
        axes.text(0, -0.02, said, fontsize=fontsize, va="top", transform=axes.transAxes)


def _show_mosaic(axes, weights, limit, fontsize):
    mosaic = filter_mosaic(weights, limit)
    axes.imshow(mosaic, interpolation="nearest")
    axes.axis("off")
    F, C = weights.shape[:2]
    columns = _columns(weights.shape)
    tiles_each = 1 if C in (1, 3) else C
    num_rows = -(-F * tiles_each // columns)
    height, width = mosaic.shape[0] / num_rows, mosaic.shape[1] / columns
    for number in range(F):
        row, column = divmod(number * tiles_each, columns)
        y = row * height + NUMBER / 2
        axes.text(column * width, y, f"{number}", fontsize=fontsize, va="center_baseline")
    return mosaic


def filter_picture(weights):
    """The mosaic with numbers and scale, as draw_conv_filters writes it.

    Shapes: weights (F, C, k, k) -> (rows, columns, 3) of uint8.
    """
    limit = scale_limit(weights)
    mosaic = filter_mosaic(weights, limit)
    picture = _without_filters(np.shape(weights), limit).copy()
    height, width = mosaic.shape[:2]
    is_tile = filter_mosaic(np.zeros(np.shape(weights)), limit) != 255
    picture[:height, GAP : GAP + width][is_tile] = mosaic[is_tile]
    return picture


@lru_cache(maxsize=4)  # text takes fifteen times as long as all else, and hardly ever changes
@drawing.own_settings()
def _without_filters(shape, limit):
    """The picture of filters that are zero."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = filter_mosaic(np.zeros(shape), limit).shape[:2]
    height, width = rows + GAP + LINE * _is_coloured(shape), GAP + columns + BAR
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    below = (height - rows) / height
    axes = figure.add_axes([GAP / width, below, columns / width, rows / height])
    _show_mosaic(axes, np.zeros(shape), limit, fontsize=8)
    left = (GAP + columns + GAP) / width
    tall = (rows - NUMBER) / height
    _add_bar(figure.add_axes([left, below, 14 / width, tall]), shape, limit)
    if _is_coloured(shape):
        figure.text(GAP / width, 0.3 * LINE / height, _meaning(limit), fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _add_bar(axes, shape, limit):
    """A colour bar, which names the ends and the middle of the scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-limit, limit), _color_map(_is_coloured(shape)))
    bar = axes.figure.colorbar(scale, cax=axes)
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:g}", "0", f"{limit:g}"])


def _meaning(limit):
    """What the colours of filters of three channels say."""
    return (
        f"red, green and blue weights as colours: 0 is mid-grey, black −{limit:g}, white {limit:g}"
    )


@cache
def _color_map(is_coloured):
    """That of filters or, where they are in colour, of each of their channels."""
    drawing.import_matplotlib()
    from matplotlib.colors import LinearSegmentedColormap

    ends = ["black", "white"] if is_coloured else DIVERGING
    return LinearSegmentedColormap.from_list("weights", ends)


def _is_coloured(shape):
    return shape[1] == 3


def _columns(shape):
    """How many tiles stand side by side."""
    F, C = shape[:2]
    return min(F, COLUMNS) if C in (1, 3) else C


def _finite(weights):
    return np.nan_to_num(np.asarray(weights, dtype=np.float64), posinf=0, neginf=0)
