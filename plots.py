"""Pictures: arrays in, image files out. Nothing is shown on a screen and no figure stays open.

Every picture is drawn with matplotlib's defaults, not with the user's settings; one that fails to
be drawn is a line of warning. It is written under another name and renamed, so that a viewer never
sees half of it. Matplotlib and scikit-image are imported where they are used: a script's --help
need not wait.
"""

import functools
import html
import io
import itertools
import re
from pathlib import Path

from support import drawing

import numpy as np

FILTER_ZOOM = 16  # screen pixels a weight: no viewer's smoothing can blur a 5x5 filter
FILTER_COLUMNS = 8
TRAIN, VALID = "tab:purple", "tab:cyan"
MARKED_EPOCHS = 50  # in longer curves the marks would cover each other
BORDER = 200  # grey level between the filters


def picture(draw):
    """Write what `draw` returns: a path, and a PNG file's bytes or an image as an array of uint8.

    What goes wrong while it is drawn is a warning.
    Raises: OSError if the file cannot be written.
    """

    @functools.wraps(draw)
    def draw_and_write(*args, **kwargs):
        drawn = None
        with drawing.warning_only(draw.__name__):
            drawn = draw(*args, **kwargs)
        if drawn is not None:
            path, content = drawn
            _write(Path(path), content)

    return draw_and_write


# --- filters ------------------------------------------------------------------------------------


def filter_mosaic(weights):
    """All filters side by side, each weight FILTER_ZOOM pixels wide.

    The smallest weight of the picture is darkest, the largest lightest. Filters of 1 or 3 channels
    become grey or coloured tiles; of others, every channel becomes a grey tile, a row a filter.
    Shapes: weights (F, C, k, k) -> (rows, columns, 3) of uint8.
    Raises: ValueError for another rank.
    """
    from skimage.util import montage

    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 4:
        raise ValueError(f"expected weights of shape (F, C, k, k), got {weights.shape}")
    F, C = weights.shape[:2]
    columns = min(F, FILTER_COLUMNS)
    if C not in (1, 3):
        weights, columns = weights.reshape(F * C, 1, *weights.shape[2:]), C
    weights = np.nan_to_num(weights, posinf=0, neginf=0)
    low, high = weights.min(), weights.max()
    tiles = (weights - low) / (high - low if high > low else 1) * 255
    tiles = np.rint(tiles).astype(np.uint8).repeat(FILTER_ZOOM, 2).repeat(FILTER_ZOOM, 3)
    tiles = np.broadcast_to(tiles, (len(tiles), 3, *tiles.shape[2:])).transpose(0, 2, 3, 1)
    rows = -(-len(tiles) // columns)
    return montage(
        tiles, grid_shape=(rows, columns), padding_width=4, fill=[BORDER] * 3, channel_axis=3
    )


@picture
def draw_conv_filters(epoch, step, weights, save_dir):
    """Write the filters to save_dir/epoch_%02d_step_%06d.png. Shape: weights (F, C, k, k)."""
    path = Path(save_dir) / f"epoch_{epoch:02d}_step_{step:06d}.png"
    return path, filter_mosaic(weights)


@picture
@drawing.own_settings()
def draw_filters_before_after(path, before, after, note=""):
    """The filters before and after training, one above the other. Shapes: (F, C, k, k) each."""
    mosaics = [filter_mosaic(before), filter_mosaic(after)]
    height, width = mosaics[0].shape[:2]
    figure = _figure(8, 1.1 + 2 * 7.6 * height / width, note)
    for axes, mosaic, title in zip(
        figure.subplots(2, 1), mosaics, ["before training", "after training"], strict=True
    ):
        _show(axes, mosaic, f"first layer, {title}")
    return path, _png(figure)


# --- curves -------------------------------------------------------------------------------------


@picture
@drawing.own_settings()
def plot_training_progress(save_dir, data, note="", class_names=()):
    """Write save_dir/training_plot.png: loss, accuracy, learning rate and error by epoch.

    data: lists with a value an epoch, train_loss, valid_loss, train_acc, valid_acc (fractions), lr.
    With data["class_acc"], lists of fractions, the last panel shows these instead of the error, for
    the class_names.
    """
    figure = _figure(14, 8, note)
    loss, accuracy, rate, error = figure.subplots(2, 2).ravel()
    epochs = np.arange(1, len(data["lr"]) + 1)
    marker = "o" if len(epochs) <= MARKED_EPOCHS else None
    for key, color, label in (("train", TRAIN, "training"), ("valid", VALID, "validation")):
        share = np.asarray(data[f"{key}_acc"], dtype=float)
        style = {"color": color, "marker": marker, "label": label}
        loss.plot(epochs, data[f"{key}_loss"], **style)
        accuracy.plot(epochs, 100 * share, **style)
        if "class_acc" not in data:
            error.plot(epochs, 100 * (1 - share), **style)
    rate.step(epochs, data["lr"], where="mid", color="tab:gray", marker=marker)
    loss.set(title="Loss", ylim=(0, None))
    accuracy.set(title="Accuracy", ylabel="%")
    scale = "log" if is_staircase(data["lr"]) else "linear"
    rate.set(title="Learning rate", yscale=scale, xlabel="epoch")
    if "class_acc" in data:
        shares = 100 * np.asarray(data["class_acc"], dtype=float).T
        for i, (name, values) in enumerate(zip(class_names, shares, strict=True)):
            error.plot(epochs, values, marker=marker and ".", color=f"C{i}", label=name)
        error.set(title="Validation accuracy of each class", ylabel="%", xlabel="epoch")
        error.legend(fontsize=8, ncols=2)
    else:
        error.set(title="Error (100 % − accuracy)", ylabel="%", xlabel="epoch")
        if min([*data["train_acc"], *data["valid_acc"]], default=1) < 1:
            error.set_yscale("log")
            _style_log_axis(error.yaxis)
        error.legend()
    for axes in (loss, accuracy):
        axes.legend()
    for axes in (loss, accuracy, rate, error):
        _style_epochs(axes)
    return Path(save_dir) / "training_plot.png", _png(figure)


def is_staircase(rates):
    """Whether learning rates go down in steps, which are all seen on a logarithmic axis only; one
    that falls to nearly 0 is seen best on a linear axis.
    """
    return 0 < min(rates, default=0) < max(rates) and 0 in np.diff(rates)


@picture
@drawing.own_settings()
def draw_l2_comparison(path, runs, note=""):
    """One column for each weight decay: filters before and after, accuracy, data and L2 loss.

    runs: dicts with weight_decay, before and after (F, C, k, k), history (dicts an epoch, with
    train_acc, valid_acc, data_loss and l2_loss), test_acc.
    """
    figure = _figure(5 * len(runs), 12, note)
    rows = figure.subplots(4, len(runs), squeeze=False, sharey="row", height_ratios=[1, 1, 3, 3])
    for column, run in zip(rows.T, runs, strict=True):
        before, after, accuracy, loss = column
        epochs = [row["epoch"] for row in run["history"]]
        _show(before, filter_mosaic(run["before"]), f"λ = {run['weight_decay']:g}\nbefore training")
        _show(after, filter_mosaic(run["after"]), "after training")
        for key, color, label in (("train", TRAIN, "training"), ("valid", VALID, "validation")):
            shares = [100 * row[f"{key}_acc"] for row in run["history"]]
            accuracy.plot(epochs, shares, color=color, marker="o", label=label)
        accuracy.set(title=f"accuracy in % (test: {run['test_acc']:.2%})")
        for key, color, label in (
            ("data_loss", VALID, "data (validation)"),
            ("l2_loss", "tab:orange", "regularization"),
        ):
            losses = [row[key] for row in run["history"]]
            loss.plot(epochs, losses, color=color, marker="o", label=label)
        loss.set(title="loss", xlabel="epoch", yscale="log")
        _style_log_axis(loss.yaxis)
        for axes in (accuracy, loss):
            _style_epochs(axes)
            axes.legend()
    return path, _png(figure)


@picture
@drawing.own_settings()
def draw_side_by_side(path, runs, note=""):
    """Runs of the same network by several makers: filters, losses and accuracies over each other.

    runs: dicts with name, filters (F, C, k, k), history (dicts an epoch) and test_acc.
    """
    figure = _figure(7 * len(runs), 10, note)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
    for axes, run in zip(top.subplots(1, len(runs)), runs, strict=True):
        _show(axes, filter_mosaic(run["filters"]), f"{run['name']}, test {run['test_acc']:.2%}")
    panels = bottom.subplots(1, 2)
    for axes, what in zip(panels, ("loss", "acc"), strict=True):
        for run, line in zip(runs, ("-", "--", ":"), strict=False):
            epochs = [row["epoch"] for row in run["history"]]
            for part, color in (("train", TRAIN), ("valid", VALID)):
                values = np.array([row[f"{part}_{what}"] for row in run["history"]])
                values = 100 * (1 - values) if what == "acc" else values
                label = f"{run['name']}, {'training' if part == 'train' else 'validation'}"
                axes.plot(epochs, values, line, color=color, marker="o", ms=3, label=label)
        axes.set(title="Loss" if what == "loss" else "Error in %", yscale="log", xlabel="epoch")
        _style_log_axis(axes.yaxis)
        _style_epochs(axes)
        axes.legend()
    return path, _png(figure)


@picture
@drawing.own_settings()
def draw_loss_comparison(path, curves, class_names, recalls, note=""):
    """Accuracy curves of several losses, all seeds, and the difference in recall of each class.

    curves: dicts with name and histories, a list of lists of dicts an epoch; recalls: {name: one
    fraction a class} of two losses.
    """
    figure = _figure(14, 5.5, note)
    accuracy, classes = figure.subplots(1, 2)
    for i, curve in enumerate(curves):
        for part, line in (("train", ":"), ("valid", "-")):
            for j, history in enumerate(curve["histories"]):
                label = f"{curve['name']}, {'training' if part == 'train' else 'validation'}"
                epochs = [row["epoch"] for row in history]
                shares = [100 * row[f"{part}_acc"] for row in history]
                style = {"color": f"C{i}", "lw": 1.3, "label": None if j else label}
                accuracy.plot(epochs, shares, line, **style)
    accuracy.set(title="Accuracy in %, a line a seed", xlabel="epoch")
    accuracy.legend()
    _style_epochs(accuracy)
    (first, before), (second, after) = recalls.items()
    differences = 100 * (np.asarray(after) - np.asarray(before))
    colors = ["C1" if difference > 0 else "C0" for difference in differences]
    classes.barh(range(len(class_names)), differences, color=colors)
    classes.set_yticks(range(len(class_names)), class_names)
    classes.invert_yaxis()
    classes.axvline(0, color="black", lw=0.8)
    classes.grid(axis="x", alpha=0.3)
    classes.set(title=f"Test recall, {second} minus {first}", xlabel="percentage points")
    return path, _png(figure)


_chart_numbers = itertools.count(1)
CHART_INK, CHART_COLORS = "#010203", ["#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"]


@drawing.warning_only("chart_svg")
@drawing.own_settings()
def chart_svg(title, lines, log=None):
    """Curves by epoch as the text of an SVG picture that takes its colours from the page.

    title: for readers who do not see the picture, with the last value of each line; it is not
    drawn. lines: (label, epochs, values) each; lines of one label look alike. The page has to give
    the colours as --ink and --line-1 to --line-4. log: a logarithmic axis, by default where the
    values allow it and span more than a factor of ten. None if it cannot be drawn.
    """
    from matplotlib import rcParams

    values = np.concatenate([np.asarray(y, dtype=float) for _, _, y in lines])
    if log is None:
        log = values.min() > 0 and values.max() > 10 * values.min()
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style = {"svg.fonttype": "none", "svg.hashsalt": title, **dict.fromkeys(inks, CHART_INK)}
    rcParams.update({**style, "font.size": 11, "axes.edgecolor": "none"})
    figure = _figure(3.8, 2.6, "")
    axes = figure.subplots()
    labels = list(dict.fromkeys(label for label, _, _ in lines))
    for label, epochs, y in lines:
        i = labels.index(label)
        color, dashes = CHART_COLORS[i % len(CHART_COLORS)], ("-", "--", ":", "-.")[i % 4]
        known = label in axes.get_legend_handles_labels()[1]
        shown = f"_{label}" if known else label
        axes.plot(epochs, y, dashes, color=color, marker="o", ms=3.5, lw=1.8, label=shown)
    axes.set(xlabel="epoch", yscale="log" if log else "linear")
    if log and values.max() < 1000 * values.min():
        _style_log_axis(axes.yaxis)
    _style_epochs(axes)
    axes.grid(color=CHART_INK, alpha=0.15, lw=0.8)
    axes.tick_params(which="both", length=0)
    if any(labels):
        axes.legend(frameon=False, handlelength=2.4)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(CHART_INK, "var(--ink)")
    for i, color in enumerate(CHART_COLORS, start=1):
        svg = svg.replace(color, f"var(--line-{i})")
    # ids are one name space for all pictures of a page; most of matplotlib's serve nobody
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>chart-{next(_chart_numbers)}-", svg)
    ends = ", ".join(f"{label} {y[-1]:.4g}".strip() for label, _, y in lines)
    label = html.escape(f"{title}; in the last epoch: {ends}")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


# --- classification -----------------------------------------------------------------------------


@picture
@drawing.own_settings()
def draw_confusion_matrix(path, confusion, class_names, note=""):
    """Counts as numbers, shares of the true class as colour. Shape: confusion (K, K)."""
    confusion = np.asarray(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = _figure(9, 8, note)
    axes = figure.subplots()
    # The root spreads the small shares, where the mistakes are.
    image = axes.imshow(np.sqrt(shares), cmap="BuPu", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        color = "white" if shares[row, column] > 0.3 else "black" if count else "lightgray"
        axes.text(column, row, f"{count}", ha="center", va="center", color=color)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=45 if max(map(len, class_names)) > 3 else 0)
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    accuracy = np.trace(confusion) / max(confusion.sum(), 1)
    axes.set_title(f"Confusion matrix: {accuracy:.2%} of {confusion.sum():,} images are right")
    bar = figure.colorbar(image, label="share of the true class", shrink=0.8)
    marks = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_ticks(np.sqrt(marks), labels=[f"{mark:.0%}" for mark in marks])
    return path, _png(figure)


@picture
@drawing.own_settings()
def draw_mistakes(path, images, captions, note=""):
    """Enlarged images with captions. Shape: images (N, H, W, C) of uint8; captions: N texts."""
    columns = 5
    rows = max(1, -(-len(images) // columns))
    figure = _figure(2.2 * columns, 2.9 * rows, note)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, caption in zip(grid, images, captions, strict=False):
        _show(axes, image if image.shape[-1] == 3 else image[..., 0])
        axes.set_title(caption, loc="left", fontsize=8, family="monospace")
    if not len(images):
        grid[0].text(0, 0.5, "no image was misclassified")
    return path, _png(figure)


@picture
def draw_tiles(path, images):
    """Images edge to edge, one screen pixel a pixel. Shape: (rows, columns, H, W, C) of uint8."""
    rows, columns, H, W, C = images.shape
    mosaic = images.transpose(0, 2, 1, 3, 4).reshape(rows * H, columns * W, C)
    return path, mosaic if C == 3 else mosaic[..., 0]


# --- common parts -------------------------------------------------------------------------------


def _figure(width, height, note):
    """A figure of width x height inches that belongs to no window; note: a line at its foot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if note:
        figure.supxlabel(note, color="tab:red", fontsize=11)
    return figure


def _show(axes, image, title=None):
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.axis("off")
    axes.set_title(title)


def _style_epochs(axes):
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _style_log_axis(axis):
    """Ticks at 1, 2, 5, 10 ..., written as plain numbers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    return buffer.getvalue()


def _write(path, content):
    """Write an image, or the bytes of a PNG file, whole or not at all."""
    from skimage.io import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{path.name}")
    try:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            imsave(temporary, content, check_contrast=False)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
