"""Pictures of several runs side by side."""

from support.figures import (
    PARTS,
    VALID,
    figure_file,
    new_figure,
    show,
    style_epochs,
    style_log_axis,
)
from support.plots import filter_mosaic

import numpy as np


@figure_file
def draw_l2_comparison(path, runs, note=""):
    """One column for each weight decay: filters before and after, accuracy, data and L2 loss.

    runs: dicts with weight_decay, before and after (F, C, k, k), history (dicts an epoch, with
    train_acc, valid_acc, data_loss and l2_loss), test_acc.
    """
    figure = new_figure(5 * len(runs), 12, note)
    rows = figure.subplots(4, len(runs), squeeze=False, sharey="row", height_ratios=[1, 1, 3, 3])
    for (before, after, accuracy, loss), run in zip(rows.T, runs, strict=True):
        title = f"λ = {run['weight_decay']:g}\nbefore training"
        show(before, filter_mosaic(run["before"]), title)
        show(after, filter_mosaic(run["after"]), "after training")
        _plot_split_history(accuracy, loss, run["history"])
        accuracy.set(title=f"accuracy in % (test: {run['test_acc']:.2%})")
    return path, figure


def _plot_split_history(accuracy, loss, history):
    """The accuracies of a run in one panel; its data and regularization loss in another."""
    epochs = [row["epoch"] for row in history]
    for part, color, label in PARTS:
        shares = [100 * row[f"{part}_acc"] for row in history]
        accuracy.plot(epochs, shares, color=color, marker="o", label=label)
    kinds = (("data_loss", VALID, "data (validation)"), ("l2_loss", "tab:orange", "regularization"))
    for key, color, label in kinds:
        losses = [row[key] for row in history]
        loss.plot(epochs, losses, color=color, marker="o", label=label)
    loss.set(title="loss", xlabel="epoch", yscale="log")
    style_log_axis(loss.yaxis)
    for axes in (accuracy, loss):
        style_epochs(axes)
        axes.legend()


@figure_file
def draw_side_by_side(path, runs, note=""):
    """Runs of the same network by several makers: filters, losses and accuracies over each other.

    runs: dicts with name, filters (F, C, k, k), history (dicts an epoch) and test_acc.
    """
    figure = new_figure(7 * len(runs), 10, note)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
    for axes, run in zip(top.subplots(1, len(runs)), runs, strict=True):
        show(axes, filter_mosaic(run["filters"]), f"{run['name']}, test {run['test_acc']:.2%}")
    loss, error = bottom.subplots(1, 2)
    for run, line in zip(runs, ("-", "--", ":"), strict=False):
        epochs = [row["epoch"] for row in run["history"]]
        for part, color, label in PARTS:
            style = {"color": color, "marker": "o", "ms": 3, "label": f"{run['name']}, {label}"}
            losses, accuracies = (
                np.array([row[f"{part}_{what}"] for row in run["history"]])
                for what in ("loss", "acc")
            )
            loss.plot(epochs, losses, line, **style)
            error.plot(epochs, 100 * (1 - accuracies), line, **style)
    for axes, title in ((loss, "Loss"), (error, "Error in %")):
        axes.set(title=title, yscale="log", xlabel="epoch")
        style_log_axis(axes.yaxis)
        style_epochs(axes)
        axes.legend()
    return path, figure


@figure_file
def draw_loss_comparison(path, curves, class_names, recalls, note=""):
    """Accuracy curves of several losses, all seeds, and the difference in recall of each class.

    curves: dicts with name and histories, a list of lists of dicts an epoch; recalls: {name: one
    fraction a class} of two losses.
    """
    figure = new_figure(14, 5.5, note)
    accuracy, classes = figure.subplots(1, 2)
    for i, curve in enumerate(curves):
        for (part, _, label), line in zip(PARTS, (":", "-"), strict=True):
            for j, history in enumerate(curve["histories"]):
                epochs = [row["epoch"] for row in history]
                shares = [100 * row[f"{part}_acc"] for row in history]
                once = None if j else f"{curve['name']}, {label}"
                accuracy.plot(epochs, shares, line, color=f"C{i}", lw=1.3, label=once)
    accuracy.set(title="Accuracy in %, a line a seed", xlabel="epoch")
    accuracy.legend()
    style_epochs(accuracy)
    _plot_recall_differences(classes, class_names, recalls)
    return path, figure


def _plot_recall_differences(axes, class_names, recalls):
    """A bar a class. recalls: {name: one fraction a class} of two losses."""
    (first, before), (second, after) = recalls.items()
    differences = 100 * (np.asarray(after) - np.asarray(before))
    colors = ["C1" if difference > 0 else "C0" for difference in differences]
    axes.barh(range(len(class_names)), differences, color=colors)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set(title=f"Test recall, {second} minus {first}", xlabel="percentage points")
