"""The charts of the page: which curves each run and each comparison shows."""

from support import plots
from support.page.curves import COLORS, DASHES, by_label, chart_svg, chosen_epochs, mean

TITLES = {
    "train_loss": "Training loss",
    "train_acc": "Training error in %",
    "valid_acc": "Validation error in %",
    "data_loss": "Validation data loss",
    "l2_loss": "Regularization loss",
}


def progress_charts(history):
    """Loss, error and learning rate of one run; none without an epoch."""
    if not history:
        return []
    epochs = history["epoch"]
    parts = {"train": "training", "valid": "validation"}
    is_staircase = plots.is_staircase(history["lr"])
    return [
        chart("Loss", [(name, epochs, history[f"{part}_loss"]) for part, name in parts.items()]),
        chart(
            "Error in %",
            [(name, epochs, _errors(history[f"{part}_acc"])) for part, name in parts.items()],
        ),
        chart("Learning rate", [("", epochs, history["lr"])], is_staircase, is_staircase),
    ]


def comparison_charts(names, histories, keys):
    """A chart for each key, with a line for each history; those of one name look alike."""
    charts = []
    for key in keys:
        lines = [
            (name, history["epoch"], _errors(history[key]) if "acc" in key else history[key])
            for name, history in zip(names, histories, strict=True)
            if history
        ]
        if lines:
            charts.append(chart(TITLES[key], lines))
    return charts


def difference_charts(ours, theirs):
    """The difference of two runs in validation accuracy, by epoch."""
    if not ours or not theirs:
        return []
    pairs = zip(theirs["valid_acc"], ours["valid_acc"], strict=False)
    differences = [100 * (b - a) for b, a in pairs]
    line = ("validation accuracy", theirs["epoch"][: len(differences)], differences)
    return [chart("PyTorch − NumPy, in points", [line], log=False)]


def _errors(accuracies):
    return [100 * (1 - accuracy) for accuracy in accuracies]


def chart(title, lines, log=None, steps=False):
    """A chart for the page: its title, its picture (empty if that cannot be drawn), its number of
    epochs, and a key: label, colour, dashes and value in the last epoch, one for those of a label.

    lines, log, steps: as for chart_svg.
    """
    groups = by_label(lines)
    epochs = chosen_epochs(groups)
    key = [
        {
            "label": label,
            "color": i % len(COLORS) + 1,
            "dash": DASHES[i % len(DASHES)][1],
            "value": mean(group, epochs[-1]),
        }
        for i, (label, group) in enumerate(groups.items())
    ]
    return {
        "title": title,
        "svg": chart_svg(title, lines, log, steps) or "",
        "key": key,
        "num": len(epochs),
        "last": f"{epochs[-1]:g}",
    }
