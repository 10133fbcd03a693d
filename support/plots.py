"""The pictures of a run: filters, curves, the confusion matrix, the worst mistakes."""

from pathlib import Path

from support.figures import (
    MARKS,
    PARTS,
    figure_file,
    image_file,
    log_scale,
    new_figure,
    show,
    style_epochs,
)
from support.filters import COLUMNS, filter_picture, scale_limit, show_filters

import numpy as np

# of the four panels of the curves
PLACES = {"left": 0.05, "bottom": 0.09, "top": 0.91, "wspace": 0.12, "hspace": 0.22}
MARKED_EPOCHS = 50  # in longer curves the marks would cover each other


# --- filters ------------------------------------------------------------------------------------


@image_file
def draw_conv_filters(epoch, step, weights, save_dir):
    """Write the filters to save_dir/epoch_%02d_step_%06d.png. Shape: weights (F, C, k, k)."""
    path = Path(save_dir) / f"epoch_{epoch:02d}_step_{step:06d}.png"
    return path, filter_picture(weights)


@figure_file
def draw_filters_before_after(path, before, after, title="", note=""):
    """The filters before and after training, on one scale, and below them their difference, which
    is small beside them, on a scale of its own. Shapes: (F, C, k, k) each.
    """
    both, change = scale_limit(before, after), scale_limit(after - before)
    rows = [
        (before, both, "before training"),
        (after, both, "after training, on the same scale"),
        (after - before, change, "what training changed (after − before), on a scale of its own"),
    ]
    num_rows = -(-len(before) // COLUMNS)
    figure = new_figure(8.4, 1.3 + 3 * (0.35 + 0.98 * num_rows), title, note)
    for axes, (weights, limit, name) in zip(figure.subplots(3, 1), rows, strict=True):
        show_filters(axes, weights, limit, f"first layer, {name}")
    return path, figure


# --- curves -------------------------------------------------------------------------------------


@figure_file
def plot_training_progress(save_dir, data, note="", class_names=(), title="", means=False):
    """Write save_dir/training_plot.png: loss, accuracy, learning rate and error by epoch.

    data: lists with a value an epoch, train_loss, valid_loss, train_acc, valid_acc (fractions), lr.
    With data["class_acc"], lists of fractions, the last panel shows these instead of the error, for
    the class_names. means: whether the training figures are means over the steps of an epoch.
    """
    if len(data["valid_acc"]):
        reached = f"validation {data['valid_acc'][-1]:.2%} after epoch {len(data['lr'])}"
        title = f"{title}, {reached}" if title else reached
    figure = new_figure(14, 8, title, note, layout=None)
    right = 0.98 if "class_acc" not in data else 0.87  # there, the names of classes come after it
    panels = figure.subplots(2, 2, gridspec_kw={**PLACES, "right": right}).ravel()
    loss, accuracy, rate, last = panels
    epochs = np.arange(1, len(data["lr"]) + 1)
    marked = len(epochs) <= MARKED_EPOCHS
    when = {"train": ", mean over the epoch", "valid": ", after the epoch"} if means else {}
    for key, label, color, mark in PARTS:
        style = {
            "color": color,
            "marker": mark if marked else None,
            "label": label + when.get(key, ""),
        }
        loss.plot(epochs, data[f"{key}_loss"], **style)
        shares = 100 * np.asarray(data[f"{key}_acc"], dtype=float)
        accuracy.plot(epochs, shares, **style)
        if "class_acc" not in data:
            last.plot(epochs, 100 - shares, **style)
    loss.set(title="Loss", ylim=(0, None))
    accuracy.set(title="Accuracy", ylabel="%")
    _plot_rates(rate, epochs, np.ravel(data["lr"]), marked)  # PyTorch's get_lr returns a list
    if "class_acc" in data:
        _plot_class_accuracies(last, epochs, data["class_acc"], class_names, marked)
    else:
        last.set(title="Error (100 % − accuracy)", ylabel="%", xlabel="epoch")
        log_scale(last)
        last.legend()
    for axes in (loss, accuracy):
        axes.legend()
    for axes in panels:
        style_epochs(axes)
    return Path(save_dir) / "training_plot.png", figure


def _plot_rates(axes, epochs, rates, marked):
    """Steps as steps, on a logarithmic axis; all other rates as a line from 0 on."""
    style = {"color": "#555555", "marker": "o" if marked else None}
    axes.set(title="Learning rate", xlabel="epoch")
    if is_staircase(rates):
        axes.step(epochs, rates, where="mid", **style)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.plot(epochs, rates, **style)
        axes.set_ylim(0, 1.1 * max(rates, default=1) or 1)


def _plot_class_accuracies(axes, epochs, class_acc, class_names, marked):
    """A line a class, the best at the end first in the legend. class_acc: a list of fractions an
    epoch.
    """
    shares = 100 * np.asarray(class_acc, dtype=float).T
    for i in np.argsort(-shares[:, -1], kind="stable"):
        style = {"marker": MARKS[i % len(MARKS)] if marked else None, "ms": 4}
        style |= {"ls": "-" if i < 5 else "--", "color": f"C{i}"}
        axes.plot(epochs, shares[i], label=f"{class_names[i]}, {shares[i, -1]:.0f} %", **style)
    axes.set(title="Validation accuracy of each class", ylabel="%", xlabel="epoch")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def is_staircase(rates):
    """Whether learning rates go down in steps, which are all seen on a logarithmic axis only; one
    that falls to nearly 0 is seen best on a linear axis.
    """
    changes = np.diff(rates)
    return min(rates, default=0) > 0 and 0 in changes and bool(np.any(changes < 0))


# --- classification -----------------------------------------------------------------------------


@figure_file
def draw_confusion_matrix(path, confusion, class_names, title="", note=""):
    """Counts as numbers, shares of the true class as colour. Shape: confusion (K, K)."""
    confusion = np.asarray(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = new_figure(9, 8.4, title, note)
    axes = figure.subplots()
    # The root spreads the small shares, where the mistakes are.
    image = axes.imshow(np.sqrt(shares), cmap="BuPu", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        color = "white" if shares[row, column] > 0.42 else "black" if count else "#737373"
        axes.text(column, row, f"{count}", ha="center", va="center", color=color)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=45 if max(map(len, class_names)) > 3 else 0)
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    accuracy = np.trace(confusion) / max(confusion.sum(), 1)
    axes.set_title(f"Confusion matrix: {accuracy:.2%} of {confusion.sum():,} test images are right")
    bar = figure.colorbar(image, label="share of the true class", shrink=0.8)
    marks = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_ticks(np.sqrt(marks), labels=[f"{mark:.0%}" for mark in marks])
    return path, figure


@figure_file
def draw_mistakes(path, images, captions, title="", note=""):
    """Enlarged images with captions. Shape: images (N, H, W, C) of uint8; captions: N texts."""
    columns = 5
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(2.2 * columns, 3 * rows + 0.3, title, note)
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
