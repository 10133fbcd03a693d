"""Draws the pictures of LAB.md: python3 docs/draw_lab.py writes docs/lab_*.png.

None of them shows a number that the lab asks for.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

HERE = Path(__file__).resolve().parent
BLUE, RED, GREY, PALE = "#1f5fa8", "#b3401f", "#555555", "#e8eef6"


def canvas(width, height):
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set_aspect("equal")
    ax.axis("off")
    return figure, ax


def save(figure, name):
    figure.savefig(HERE / f"lab_{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def box(ax, x, y, width, height, text, color=PALE):
    ax.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor=GREY))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)


def arrow(ax, start, end, color):
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.6}
    ax.annotate("", xy=end, xytext=start, arrowprops=style)


def draw_passes():
    """A layer between its neighbours: forward to the right, gradients to the left."""
    figure, ax = canvas(9, 2.6)
    for x, text in ((0, "layer\nbefore"), (4.2, "your layer\n\nkeeps what its\nway back needs"),
                    (9.2, "layers after it,\nthen the loss L")):  # fmt: skip
        width = 1.8 if x == 0 else 2.8
        box(ax, x, 0, width, 2.2, text)
    for left, right, out, grad in ((1.8, 4.2, "x", "dL/dx"), (7, 9.2, "out", "dL/dout")):
        arrow(ax, (left, 1.6), (right, 1.6), BLUE)
        arrow(ax, (right, 0.6), (left, 0.6), RED)
        ax.text((left + right) / 2, 1.75, out, ha="center", va="bottom", color=BLUE, fontsize=11)
        ax.text((left + right) / 2, 0.45, grad, ha="center", va="top", color=RED, fontsize=11)
    arrow(ax, (5.6, 0), (5.6, -0.9), RED)
    ax.text(5.6, 2.5, "forward(x) → out", color=BLUE, fontsize=11, ha="center")
    inputs, params = "backward_inputs(dL/dout) → dL/dx", "→ dL/dweights, dL/dbias"
    ax.text(5.1, -0.7, inputs, color=RED, fontsize=11, ha="right", va="center")
    ax.text(6.1, -0.7, f"backward_params(dL/dout) {params}", color=RED, fontsize=11, va="center")
    ax.set_xlim(-1.2, 14)
    ax.set_ylim(-1.2, 3)
    save(figure, "passes")


def draw_receptive_field():
    """In one dimension: windows of 3, of 2 with stride 2, and of 3 again."""
    figure, ax = canvas(8, 3.1)
    rows = [("pixels", 14, 1, 0.5), ("window 3", 14, 1, 0.5), ("window 2, stride 2", 7, 2, 1)]
    rows += [("window 3", 7, 2, 1)]
    seen = [(3, 11), (4, 10), (2, 5), (3, 4)]  # from, to, in the values of the row
    for level, ((title, count, jump, first), (low, high)) in enumerate(
        zip(rows, seen, strict=True)
    ):
        y = 1.3 * level
        ax.text(-0.4, y, title, ha="right", va="center", fontsize=10, color=GREY)
        for i in range(count):
            color = BLUE if low <= i < high else "white"
            ax.add_patch(plt.Circle((first + i * jump, y), 0.3, facecolor=color, edgecolor=GREY))
        if level:
            _, _, below_jump, below_first = rows[level - 1]
            for i in range(low, high):
                window, stride = (2, 2) if "stride" in title else (3, 1)
                start = i * stride - (0 if "stride" in title else 1)
                for k in range(window):
                    x = below_first + (start + k) * below_jump
                    ax.plot([first + i * jump, x], [y - 0.3, y - 1], color=BLUE, lw=0.8)
    ax.set_xlim(-4.2, 14.2)
    ax.set_ylim(-0.5, 4.4)
    save(figure, "receptive_field")


def draw_im2col():
    """Four windows of an image of 3x3, each as a column."""
    figure, ax = canvas(8, 3.1)
    image = np.arange(1, 10).reshape(3, 3)
    colors = [BLUE, RED, "#2e7d32", "#8e5a00"]
    for (row, column), value in np.ndenumerate(image):
        box(ax, column, 2.5 - row, 1, 1, str(value), "white")
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for place, ((i, j), color) in enumerate(zip(places, colors, strict=True)):
        inset = 0.08 + 0.05 * place
        side = 2 - 2 * inset
        ax.add_patch(
            Rectangle((j + inset, 2.5 - i - 1 + inset), side, side, fill=False, ec=color, lw=2)
        )
        for k, value in enumerate(image[i : i + 2, j : j + 2].ravel()):
            box(ax, 6 + 1.2 * place, 3 - k, 1, 1, str(value), "white")
        ax.add_patch(Rectangle((6 + 1.2 * place, 0), 1, 4, fill=False, ec=color, lw=2))
    ax.annotate("", xy=(5.6, 2), xytext=(3.6, 2), arrowprops={"arrowstyle": "-|>", "lw": 1.6})
    ax.text(4.6, 2.2, "im2col", ha="center", fontsize=11)
    ax.annotate("", xy=(3.6, 1.2), xytext=(5.6, 1.2), arrowprops={"arrowstyle": "-|>", "lw": 1.6})
    ax.text(4.6, 0.9, "col2im\nadds up", ha="center", va="top", fontsize=11)
    ax.text(1.5, 4, "an image, windows of 2x2", ha="center", fontsize=10, color=GREY)
    ax.text(8.3, 4.3, "a column for each window", ha="center", fontsize=10, color=GREY)
    ax.set_xlim(-0.2, 11.2)
    ax.set_ylim(-0.3, 4.7)
    save(figure, "im2col")


if __name__ == "__main__":
    draw_passes()
    draw_receptive_field()
    draw_im2col()
