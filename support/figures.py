"""What all pictures share: how they are drawn and written, and the style of their panels.

Every figure is drawn with matplotlib's defaults, not with the user's settings; nothing is shown on
a screen and no figure stays open. A picture that fails to be drawn is a line of warning; it is
written whole or not at all, so that a viewer never sees half of it. Matplotlib, scikit-image, and
Pillow, which both of them bring, are imported where they are used: a script's --help need not wait.
"""

import functools
import io
from pathlib import Path

from support import drawing, files

import numpy as np

# purple, orange, teal: at least 4.5 : 1 on white. Colour-blind eyes tell the first two well apart;
# all have marks of their own, too.
COLORS, MARKS = ("#6a42ba", "#b9590c", "#0b7d8c"), ("o", "s", "^")
# prefix, label, colour and mark of training and validation
PARTS = (("train", "training", COLORS[0], MARKS[0]), ("valid", "validation", COLORS[1], MARKS[1]))
NOTE = "#b3261e"


def image_file(draw):
    """Write what `draw` returns: a path, and an image as an array of uint8.

    What goes wrong while it is drawn is a warning.
    Raises: OSError if the file cannot be written.
    """

    @functools.wraps(draw)
    def draw_and_write(*args, **kwargs):
        drawn = None
        with drawing.warning_only(draw.__name__):
            drawn = draw(*args, **kwargs)
        if drawn is not None:
            path, image = drawn
            _write(Path(path), image)

    return draw_and_write


def figure_file(draw):
    """As image_file, for what returns a path and a matplotlib figure."""

    @functools.wraps(draw)
    @drawing.own_settings()
    def draw_png(*args, **kwargs):
        path, figure = draw(*args, **kwargs)
        return path, _pixels(figure)

    return image_file(draw_png)


def _pixels(figure):
    """A figure as it looks. Shape: (rows, columns, 3) of uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # savefig goes through a figure twice where its layout is to be found
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _write(path, image):
    from PIL import Image

    buffer = io.BytesIO()
    # files of 10 % more bytes in half the time; scikit-image's imsave is 0.3 s of imports away
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, buffer.getvalue())


def new_figure(width, height, title="", note="", layout="constrained"):
    """A figure of width x height inches that belongs to no window; title: a line at its head;
    note: one at its foot, of what a reader must know about the data. layout: matplotlib's, which
    takes longer than to draw; or none, where the panels' places are known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    if title:
        figure.suptitle(title, fontsize=13)
    if note:
        figure.supxlabel(note, color=NOTE, fontsize=11)
    return figure


def show(axes, image, title=None):
    """An image without axes, each of its pixels a square. Shape: (H, W) or (H, W, 3) of uint8."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.axis("off")
    axes.set_title(title)


def style_epochs(axes):
    """A grid, and ticks at whole epochs only."""
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)


def log_scale(axes):
    """A logarithmic axis of values, where each of them has a logarithm."""
    if axes.yaxis.get_data_interval()[0] > 0:
        axes.set_yscale("log")
        style_log_axis(axes.yaxis)


def style_log_axis(axis):
    """Ticks at 1, 2, 5, 10 ..., more of them where all values are close, as plain numbers."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_data_interval()
    subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
