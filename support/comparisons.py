"""Pictures of several runs side by side. dataset: the data.Dataset, which is named in each."""

from support.figures import (
    COLORS,
    MARKS,
    PARTS,
    figure_file,
    log_scale,
    new_figure,
    style_epochs,
)
from support.filters import scale_limit, show_filters

import numpy as np

# --- Task 2: weight decays ----------------------------------------------------------------------


@figure_file
def draw_l2_comparison(path, runs, dataset):
    """For each weight decay the filters before and after, all on one scale; below them its curves,
    those of all weight decays together.

    runs: dicts with weight_decay, before and after (F, C, k, k), history (dicts an epoch, with
    train_acc, valid_acc, data_loss and l2_loss), test_acc.
    """
    title = f"L2 regularization, {dataset.title}: {_choice(runs)}"
    figure = new_figure(max(10, 5 * len(runs)), 11.5, title, dataset.note)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2, 5])
    rows = top.subplots(2, len(runs), squeeze=False)
    limit = scale_limit(*(run[when] for run in runs for when in ("before", "after")))
    for column, run in zip(rows.T, runs, strict=True):
        for axes, when in zip(column, ("before", "after"), strict=True):
            name = f"λ = {run['weight_decay']:g}, {when} training"
            show_filters(axes, run[when], limit, name, fontsize=6)
    _plot_weight_decays(bottom, runs)
    return path, figure


def _choice(runs):
    """Which λ the validation images choose, and what the test then says of it."""
    best = max(runs, key=lambda run: run["history"][-1]["valid_acc"])
    valid_acc, test_acc = best["history"][-1]["valid_acc"], best["test_acc"]
    choice = "validation chooses " if len(runs) > 1 else ""
    return f"{choice}λ = {best['weight_decay']:g}, validation {valid_acc:.2%}, test {test_acc:.2%}"


def _plot_weight_decays(figure, runs):
    """Accuracies and the two parts of the loss, a line for each weight decay."""
    panels = figure.subplots(2, 2)
    titles = {
        "train_acc": "Training accuracy in %, mean over the epoch",
        "valid_acc": "Validation accuracy in %",
        "data_loss": "Data loss of the validation images",
        "l2_loss": "Regularization loss",
    }
    for axes, (key, title) in zip(panels.ravel(), titles.items(), strict=True):
        for i, run in enumerate(runs):
            values = np.array([row[key] for row in run["history"]])
            style = {"color": COLORS[i % len(COLORS)], "marker": MARKS[i % len(MARKS)]}
            style |= {"label": f"λ = {run['weight_decay']:g}, test {run['test_acc']:.2%}"}
            style |= {"ls": ("-", "--", ":")[i // len(COLORS) % 3]}
            epochs = [row["epoch"] for row in run["history"]]
            axes.plot(epochs, 100 * values if "acc" in key else values, **style)
        axes.set_title(title)
        style_epochs(axes)
        if "loss" in key:
            axes.set_xlabel("epoch")
            log_scale(axes)
    panels[0, 0].sharey(panels[0, 1])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(runs), 4))


# --- Task 3: makers -----------------------------------------------------------------------------


@figure_file
def draw_side_by_side(path, runs, dataset):
    """Two runs of the same network by two makers: filters, losses, accuracies, and by how much
    they differ, since the curves may lie over each other.

    runs: dicts with name, filters (F, C, k, k), history (dicts an epoch) and test_acc.
    """
    first, second = runs
    names = f"{second['name']} − {first['name']}"
    accuracies = ", ".join(f"{run['name']} {run['test_acc']:.2%} in the test" for run in runs)
    figure = new_figure(
        14, 11, f"The same network twice, {dataset.title}: {accuracies}", dataset.note
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 5])
    _show_both_filters(top, runs, names)
    panels = bottom.subplots(2, 2, height_ratios=[3, 2])
    for (curves, change), what in zip(panels.T, ("loss", "acc"), strict=True):
        _plot_both(curves, change, runs, what)
        curves.set_title("Loss" if what == "loss" else "Error in %")
        log_scale(curves)
        unit = "Loss" if what == "loss" else "Accuracy in percentage points"
        change.set(title=f"{unit}, {names}", xlabel="epoch")
        change.axhline(0, color="black", lw=0.8)
        for axes in (curves, change):
            style_epochs(axes)
            axes.legend()
    return path, figure


def _plot_both(curves, change, runs, what):
    """The losses or errors of two runs over each other; in change, by how much the losses or
    accuracies of the second are larger.
    """
    for part, label, color, mark in PARTS:
        (epochs, before), (others, after) = (_curve(run, f"{part}_{what}") for run in runs)
        labels = [f"{run['name']}, {label}" for run in runs]
        curves.plot(epochs, before, color=color, lw=6, alpha=0.35, label=labels[0])
        curves.plot(others, after, "--", color=color, marker=mark, ms=4, label=labels[1])
        common = min(len(epochs), len(others))
        more = after[:common] - before[:common]
        more = -more if what == "acc" else more  # of the accuracy, where the curve is the error
        change.plot(epochs[:common], more, color=color, marker=mark, label=label)


def _curve(run, key):
    """Epochs and values of a column; of an accuracy, the error in per cent."""
    epochs = [row["epoch"] for row in run["history"]]
    values = np.array([row[key] for row in run["history"]], dtype=float)
    return epochs, 100 * (1 - values) if key.endswith("acc") else values


def _show_both_filters(figure, runs, names):
    """The filters of both on one scale, and their difference, if they have one, on its own."""
    first, second = (run["filters"] for run in runs)
    is_alike = first.shape == second.shape
    panels = figure.subplots(1, 2 + is_alike)
    limit = scale_limit(first, second)
    for axes, run in zip(panels, runs, strict=False):
        show_filters(axes, run["filters"], limit, run["name"], fontsize=6)
    if is_alike:
        change, title = second - first, f"{names}, on a scale of its own"
        show_filters(panels[2], change, scale_limit(change), title, fontsize=6)


# --- bonus: losses ------------------------------------------------------------------------------


@figure_file
def draw_loss_comparison(path, curves, class_names, recalls, dataset):
    """Accuracy curves of several losses, all seeds, and the difference in recall of each class.

    curves: dicts with name and histories, a list of lists of dicts an epoch; recalls: {name: one
    fraction a class} of two losses.
    """
    figure = new_figure(14, 6, f"Hinge loss and cross-entropy, {dataset.title}", dataset.note)
    accuracy, classes = figure.subplots(1, 2)
    colors = {curve["name"]: color for curve, color in zip(curves, COLORS, strict=False)}
    for curve in curves:
        for (part, label, _, _), line in zip(PARTS, (":", "-"), strict=True):
            for j, history in enumerate(curve["histories"]):
                epochs = [row["epoch"] for row in history]
                shares = [100 * row[f"{part}_acc"] for row in history]
                once = None if j else f"{_named(curve['name'])}, {label}"
                color = colors[curve["name"]]
                accuracy.plot(epochs, shares, line, color=color, lw=1.5, label=once)
    accuracy.set(title="Accuracy in %, a line a seed", xlabel="epoch")
    accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    style_epochs(accuracy)
    _plot_recall_differences(classes, class_names, recalls, colors)
    return path, figure


def _named(loss):
    return loss.replace("_", "-")


def _plot_recall_differences(axes, class_names, recalls, colors):
    """A bar a class, in the colour of the loss that is better. recalls: {name: one fraction a
    class} of two losses.
    """
    (first, before), (second, after) = recalls.items()
    differences = 100 * (np.asarray(after) - np.asarray(before))
    for name, is_better in ((first, differences < 0), (second, differences > 0)):
        lengths = np.where(is_better, differences, 0)
        bars = axes.barh(
            class_names, lengths, color=colors[name], label=f"{_named(name)} is better"
        )
        labels = [
            f"{length:+.1f}".replace("-", "−") if abs(length) >= 0.05 else "" for length in lengths
        ]
        axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    title = f"Test recall, {_named(second)} minus {_named(first)}"
    axes.set(title=title, xlabel="percentage points")
