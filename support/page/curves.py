"""Curves by epoch as an SVG picture in the colours of the page, with the values in it."""

import html
import io
import itertools
import json
import re

from support import drawing, figures

import numpy as np

# drawn in these, which stand for nothing else; the page replaces them by its own
INK, COLORS = "#010203", ["#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"]
# dashes, as matplotlib's and as those of the page's keys, in pixels
DASHES = (("-", "none"), ("--", "6 3"), (":", "2 3"), ("-.", "7 3 2 3"))
MAX_MARKED = 60  # epochs: more markers would hide the line
MAX_TICKS = 6  # steps that have ticks of their own
MAX_POINTS = 500  # epochs whose values can be read, evenly chosen

_numbers = itertools.count(1)


@drawing.warning_only("chart_svg")
@drawing.own_settings()
def chart_svg(title, lines, log=None, steps=False):
    """The text of an SVG picture. None if it cannot be drawn.

    title: for readers who do not see the picture, with the last value of each line; it is not
    drawn. lines: (label, epochs, values) each; lines of one label look alike. The page has to give
    the colours, as --ink and --line-1 to --line-4, and the key. log: a logarithmic axis, by default
    where the values allow it and span more than a factor of ten. steps: whether a value holds for
    its whole epoch. The attribute data-points says where each value is; see _points.
    """
    from matplotlib import rcParams

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title, **dict.fromkeys(inks, INK)})
    rcParams.update({"font.size": 11, "axes.edgecolor": "none", "figure.dpi": 72})  # as in SVG
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure = _drawn(lines, log, steps)
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    ends = ", ".join(f"{label} {y[-1]:.4g}".strip() for label, _, y in lines)
    label = html.escape(f"{title}; in the last epoch: {ends}")
    points = json.dumps(_points(figure, lines), separators=(",", ":"))  # has no apostrophe
    svg = _fit_for_the_page(svg[svg.index("<svg") :])
    attributes = f'role="img" aria-label="{label}" data-points=\'{points}\''
    return svg.replace("<svg ", f"<svg {attributes} ", 1)


def _drawn(lines, log, steps):
    """The figure of chart_svg."""
    values = np.concatenate([np.asarray(y, dtype=float) for _, _, y in lines])
    if log is None:
        log = values.min() > 0 and values.max() > 10 * values.min()
    figure = figures.new_figure(3.8, 2.4)
    axes = figure.subplots()
    labels = list(by_label(lines))
    for label, epochs, y in lines:
        i = labels.index(label)
        style = {"color": COLORS[i % len(COLORS)], "ls": DASHES[i % len(DASHES)][0], "lw": 1.8}
        style |= {"marker": "o", "ms": 3.5} if len(epochs) <= MAX_MARKED else {}
        axes.plot(epochs, y, drawstyle="steps-mid" if steps else "default", **style)
    axes.set(xlabel="epoch", yscale="log" if log else "linear")
    if steps and len(set(values)) <= MAX_TICKS:
        axes.set_yticks(sorted(set(values)), minor=False)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    elif log and values.max() < 1000 * values.min():
        figures.style_log_axis(axes.yaxis)
    figures.style_epochs(axes)
    axes.grid(color=INK, alpha=0.15, lw=0.8)
    axes.tick_params(which="both", length=0)
    return figure


def _points(figure, lines):
    """What can be read off: {epochs, x, top, bottom, lines: [{color, texts, y}]}, one a label.

    texts: the label's value in each epoch; y: for each of its lines the places of its values. All
    places are in points from the upper left corner; None is where nothing is.
    """
    axes, height = figure.axes[0], figure.bbox.height
    groups = by_label(lines)
    epochs = chosen_epochs(groups)

    def places(values):
        y = np.array([values.get(epoch, np.nan) for epoch in epochs], dtype=float)
        x_y = axes.transData.transform(np.column_stack([epochs, y]))
        return [round(height - y, 1) if np.isfinite(y) else None for _, y in x_y.tolist()]

    box = axes.get_window_extent()
    level = [axes.get_ylim()[1]] * len(epochs)
    return {
        "epochs": [f"{epoch:g}" for epoch in epochs],
        "x": axes.transData.transform(np.column_stack([epochs, level]))[:, 0].round(1).tolist(),
        "top": round(height - box.y1, 1),
        "bottom": round(height - box.y0, 1),
        "lines": [
            {
                "color": i % len(COLORS) + 1,
                "texts": [mean(group, epoch) for epoch in epochs],
                "y": [places(values) for values in group],
            }
            for i, group in enumerate(groups.values())
        ],
    }


def by_label(lines):
    """{label: a dict {epoch: value} for each of its lines}"""
    groups = {}
    for label, epochs, values in lines:
        groups.setdefault(label, []).append(dict(zip(epochs, values, strict=True)))
    return groups


def chosen_epochs(groups):
    """The epochs whose values can be read, the last among them."""
    epochs = sorted({epoch for group in groups.values() for values in group for epoch in values})
    if len(epochs) <= MAX_POINTS:
        return epochs
    chosen = np.linspace(0, len(epochs) - 1, MAX_POINTS).round().astype(int)
    return [epochs[i] for i in chosen]


def mean(group, epoch):
    """The mean of the lines that reach an epoch, as a text; a dash where none does."""
    values = [values[epoch] for values in group if epoch in values]
    return f"{sum(values) / len(values):.3g}".replace("-", "−") if values else "–"


def _fit_for_the_page(svg):
    """The picture in the page's colours, with ids that no other picture of the page has."""
    svg = svg.replace(INK, "var(--ink)")
    for i, color in enumerate(COLORS, start=1):
        svg = svg.replace(color, f"var(--line-{i})")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>chart-{next(_numbers)}-", svg)
