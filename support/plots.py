"""The pictures of a run: filters, curves, the confusion matrix, the worst mistakes."""

from pathlib import Path

from support.figures import (
    PARTS,
    figure_file,
    image_file,
    new_figure,
    show,
    style_epochs,
    style_log_axis,
)

import numpy as np

FILTER_ZOOM = 16  # screen pixels a weight: no viewer's smoothing can blur a 5x5 filter
FILTER_COLUMNS = 8
MARKED_EPOCHS = 50  # in longer curves the marks would cover each other
BORDER = 200  # grey level between the filters


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


@image_file
def draw_conv_filters(epoch, step, weights, save_dir):
    """Write the filters to save_dir/epoch_%02d_step_%06d.png. Shape: weights (F, C, k, k)."""
    path = Path(save_dir) / f"epoch_{epoch:02d}_step_{step:06d}.png"
    return path, filter_mosaic(weights)


@figure_file
def draw_filters_before_after(path, before, after, note=""):
    """The filters before and after training, one above the other. Shapes: (F, C, k, k) each."""
    mosaics = [filter_mosaic(before), filter_mosaic(after)]
    height, width = mosaics[0].shape[:2]
    figure = new_figure(8, 1.1 + 2 * 7.6 * height / width, note)
    for axes, mosaic, title in zip(
        figure.subplots(2, 1), mosaics, ["before training", "after training"], strict=True
    ):
        show(axes, mosaic, f"first layer, {title}")
    return path, figure


# --- curves -------------------------------------------------------------------------------------


@figure_file
def plot_training_progress(save_dir, data, note="", class_names=()):
    """Write save_dir/training_plot.png: loss, accuracy, learning rate and error by epoch.

    data: lists with a value an epoch, train_loss, valid_loss, train_acc, valid_acc (fractions), lr.
    With data["class_acc"], lists of fractions, the last panel shows these instead of the error, for
    the class_names.
    """
    figure = new_figure(14, 8, note)
    panels = figure.subplots(2, 2).ravel()
    loss, accuracy, rate, last = panels
    epochs = np.arange(1, len(data["lr"]) + 1)
    marker = "o" if len(epochs) <= MARKED_EPOCHS else None
    for key, color, label in PARTS:
        style = {"color": color, "marker": marker, "label": label}
        loss.plot(epochs, data[f"{key}_loss"], **style)
        accuracy.plot(epochs, 100 * np.asarray(data[f"{key}_acc"], dtype=float), **style)
    rate.step(epochs, data["lr"], where="mid", color="tab:gray", marker=marker)
    loss.set(title="Loss", ylim=(0, None))
    accuracy.set(title="Accuracy", ylabel="%")
    scale = "log" if is_staircase(data["lr"]) else "linear"
    rate.set(title="Learning rate", yscale=scale, xlabel="epoch")
    if "class_acc" in data:
        _plot_class_accuracies(last, epochs, data["class_acc"], class_names, marker)
    else:
        _plot_errors(last, epochs, data, marker)
    for axes in (loss, accuracy):
        axes.legend()
    for axes in panels:
        style_epochs(axes)
    return Path(save_dir) / "training_plot.png", figure


def _plot_errors(axes, epochs, data, marker):
    """The share of wrong answers in training and validation."""
    for key, color, label in PARTS:
        errors = 100 * (1 - np.asarray(data[f"{key}_acc"], dtype=float))
        axes.plot(epochs, errors, color=color, marker=marker, label=label)
    axes.set(title="Error (100 % − accuracy)", ylabel="%", xlabel="epoch")
    if min([*data["train_acc"], *data["valid_acc"]], default=1) < 1:
        axes.set_yscale("log")
        style_log_axis(axes.yaxis)
    axes.legend()


def _plot_class_accuracies(axes, epochs, class_acc, class_names, marker):
    """A line a class. class_acc: a list of fractions an epoch."""
    shares = 100 * np.asarray(class_acc, dtype=float).T
    for i, (name, values) in enumerate(zip(class_names, shares, strict=True)):
        axes.plot(epochs, values, marker=marker and ".", color=f"C{i}", label=name)
    axes.set(title="Validation accuracy of each class", ylabel="%", xlabel="epoch")
    axes.legend(fontsize=8, ncols=2)


def is_staircase(rates):
    """Whether learning rates go down in steps, which are all seen on a logarithmic axis only; one
    that falls to nearly 0 is seen best on a linear axis.
    """
    return 0 < min(rates, default=0) < max(rates) and 0 in np.diff(rates)


# --- classification -----------------------------------------------------------------------------


@figure_file
def draw_confusion_matrix(path, confusion, class_names, note=""):
    """Counts as numbers, shares of the true class as colour. Shape: confusion (K, K)."""
    confusion = np.asarray(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = new_figure(9, 8, note)
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
    return path, figure


@figure_file
def draw_mistakes(path, images, captions, note=""):
    """Enlarged images with captions. Shape: images (N, H, W, C) of uint8; captions: N texts."""
    columns = 5
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(2.2 * columns, 2.9 * rows, note)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, caption in zip(grid, images, captions, strict=False):
        show(axes, image if image.shape[-1] == 3 else image[..., 0])
        axes.set_title(caption, loc="left", fontsize=8, family="monospace")
    if not len(images):
        grid[0].text(0, 0.5, "no image was misclassified")
    return path, figure


@image_file
def draw_tiles(path, images):
    """Images edge to edge, one screen pixel a pixel. Shape: (rows, columns, H, W, C) of uint8."""
    rows, columns, H, W, C = images.shape
    mosaic = images.transpose(0, 2, 1, 3, 4).reshape(rows * H, columns * W, C)
    return path, mosaic if C == 3 else mosaic[..., 0]
