"""Curves by epoch as SVG pictures that take their colours from the page."""

import html
import io
import itertools
import re

from support import drawing, figures, plots

import numpy as np

TITLES = {
    "train_loss": "Training loss",
    "train_acc": "Training error in %",
    "valid_acc": "Validation error in %",
    "data_loss": "Data loss of the validation images",
    "l2_loss": "Regularization loss",
}
# drawn in these, which stand for nothing else; the page replaces them by its own
INK, COLORS = "#010203", ["#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"]
DASHES = ("-", "--", ":", "-.")

_numbers = itertools.count(1)


def progress_charts(history):
    """Loss, error and learning rate of one run; none without an epoch."""
    if not history:
        return []
    epochs = history["epoch"]
    parts = {"train": "training", "valid": "validation"}
    return [
        chart("Loss", [(name, epochs, history[f"{part}_loss"]) for part, name in parts.items()]),
        chart(
            "Error in %",
            [(name, epochs, _errors(history[f"{part}_acc"])) for part, name in parts.items()],
        ),
        chart("Learning rate", [("", epochs, history["lr"])], plots.is_staircase(history["lr"])),
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
    line = ("", theirs["epoch"][: len(differences)], differences)
    title = "Validation accuracy, PyTorch − NumPy, in points"
    return [chart(title, [line], log=False)]


def _errors(accuracies):
    return [100 * (1 - accuracy) for accuracy in accuracies]


def chart(title, lines, log=None):
    """A chart for the page: its title and its picture, empty if that cannot be drawn."""
    return {"title": title, "svg": chart_svg(title, lines, log) or ""}


@drawing.warning_only("chart_svg")
@drawing.own_settings()
def chart_svg(title, lines, log=None):
    """The text of an SVG picture. None if it cannot be drawn.

    title: for readers who do not see the picture, with the last value of each line; it is not
    drawn. lines: (label, epochs, values) each; lines of one label look alike. The page has to give
    the colours as --ink and --line-1 to --line-4. log: a logarithmic axis, by default where the
    values allow it and span more than a factor of ten.
    """
    from matplotlib import rcParams

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title, **dict.fromkeys(inks, INK)})
    rcParams.update({"font.size": 11, "axes.edgecolor": "none"})
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure = _curves(lines, log)
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    ends = ", ".join(f"{label} {y[-1]:.4g}".strip() for label, _, y in lines)
    label = html.escape(f"{title}; in the last epoch: {ends}")
    svg = _fit_for_the_page(svg[svg.index("<svg") :])
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _curves(lines, log):
    """The figure of chart_svg."""
    values = np.concatenate([np.asarray(y, dtype=float) for _, _, y in lines])
    if log is None:
        log = values.min() > 0 and values.max() > 10 * values.min()
    figure = figures.new_figure(3.8, 2.6)
    axes = figure.subplots()
    labels = list(dict.fromkeys(label for label, _, _ in lines))
    for label, epochs, y in lines:
        i = labels.index(label)
        known = label in axes.get_legend_handles_labels()[1]
        style = {"color": COLORS[i % len(COLORS)], "label": f"_{label}" if known else label}
        axes.plot(epochs, y, DASHES[i % len(DASHES)], marker="o", ms=3.5, lw=1.8, **style)
    axes.set(xlabel="epoch", yscale="log" if log else "linear")
    if log and values.max() < 1000 * values.min():
        figures.style_log_axis(axes.yaxis)
    figures.style_epochs(axes)
    axes.grid(color=INK, alpha=0.15, lw=0.8)
    axes.tick_params(which="both", length=0)
    if any(labels):
        axes.legend(frameon=False, handlelength=2.4)
    return figure


def _fit_for_the_page(svg):
    """The picture in the page's colours, with ids that no other picture of the page has."""
    svg = svg.replace(INK, "var(--ink)")
    for i, color in enumerate(COLORS, start=1):
        svg = svg.replace(color, f"var(--line-{i})")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>chart-{next(_numbers)}-", svg)
