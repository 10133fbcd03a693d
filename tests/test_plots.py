import gc
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from support import comparisons, figures, filters, plots
from support.page import charts, curves

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from skimage.io import imread

from conftest import ROOT

# --- filters ------------------------------------------------------------------------------------


def tile(mosaic, row, column, size):
    """One filter of a mosaic, a colour for each of its size x size weights; checks that it is
    enlarged without interpolation and stands between white gaps.
    """
    zoom = -(-filters.TILE // size)
    side = size * zoom
    y = row * (side + filters.NUMBER) + filters.NUMBER
    x = column * (side + filters.GAP)
    for gap in (
        mosaic[y - filters.NUMBER : y, x : x + side],
        mosaic[y : y + side, x + side :][:, :4],
    ):
        assert np.all(gap == 255)
    pixels = mosaic[y : y + side, x : x + side].reshape(size, zoom, size, zoom, 3)
    assert np.all(pixels == pixels[:, :1, :, :1])
    return pixels[:, 0, :, 0].astype(int)


def test_draw_conv_filters_writes_the_lab_name_enlarged(tmp_path, rng):
    weights = rng.standard_normal((16, 1, 5, 5))
    before = weights.copy()
    for _ in range(2):  # what does not change is drawn once
        plots.draw_conv_filters(3, 200, weights, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["epoch_03_step_000200.png"]
        image = imread(tmp_path / "epoch_03_step_000200.png")
        assert np.array_equal(weights, before)
        limit = filters.scale_limit(weights)
        mosaic = filters.filter_mosaic(weights, limit)
        rows, columns = mosaic.shape[:2]
        shown = image[:rows, filters.GAP : filters.GAP + columns]
        for i in range(16):
            assert np.array_equal(tile(mosaic, *divmod(i, 8), 5), tile_of(shown, i))
        assert np.ptp(image[:rows, filters.GAP + columns :]) > 100  # the scale
    plots.draw_conv_filters(3, 200, weights / 3, tmp_path)
    assert not np.array_equal(imread(tmp_path / "epoch_03_step_000200.png"), image)


def tile_of(picture, i):
    """The colours of filter i of a picture in which numbers stand above the filters."""
    row, column = divmod(i, 8)
    y, x = row * (80 + filters.NUMBER) + filters.NUMBER, column * (80 + filters.GAP)
    return picture[y : y + 80 : 16, x : x + 80 : 16]


def test_each_filter_has_its_number(rng):
    picture = filters.filter_picture(rng.standard_normal((9, 1, 5, 5)))
    for row, column in (*((0, i) for i in range(8)), (1, 0)):
        y, x = row * (80 + filters.NUMBER), filters.GAP + column * (80 + filters.GAP)
        assert picture[y : y + filters.NUMBER, x : x + 20].min() < 100
    y, x = 80 + filters.NUMBER, filters.GAP + 80 + filters.GAP
    assert np.all(picture[y : y + 90, x : x + 400] == 255)  # there are no more


def test_zero_has_one_colour_whatever_the_other_weights_are():
    weights = np.zeros((3, 1, 1, 3))
    weights[:, 0, 0, 0] = [-0.1, -2, 5]
    weights[:, 0, 0, 2] = [0.1, 0.3, 5]
    middles = [filters.filter_mosaic(w[None], filters.scale_limit(w[None])) for w in weights]
    grey = {tuple(mosaic[filters.NUMBER + 5, filters.TILE // 2]) for mosaic in middles}
    assert len(grey) == 1
    red, green, blue = (int(part) for part in grey.pop())
    assert max(red, green, blue) - min(red, green, blue) < 6
    assert 190 < green < 235  # neither white, as the gaps, nor dark


@pytest.mark.parametrize("largest", [1e-9, 0.105, 0.5, 1.0, 1.07, 8e3])
def test_a_scale_is_round_symmetric_and_seldom_changes(largest, rng):
    weights = rng.uniform(-largest / 2, largest / 2, (4, 1, 3, 3))
    weights[2, 0, 1, 1] = -largest
    limit = filters.scale_limit(weights / 2, weights)
    assert largest * 0.999 < limit < 1.5 * largest
    assert len(f"{limit:g}".strip("0.").split("e")[0]) <= 3
    assert filters.scale_limit(weights, 0.999 * weights) == limit


def test_positive_weights_are_orange_and_negative_blue():
    red, _, blue = np.moveaxis(
        filters.filter_mosaic(np.linspace(-1, 1, 9).reshape(1, 1, 1, 9), 1), -1, 0
    )
    red, blue = (
        colour[filters.NUMBER :: 100, : filters.TILE : 9].astype(int).ravel()
        for colour in (red, blue)
    )
    assert np.all(red[:4] < blue[:4])
    assert np.all(red[5:] > blue[5:])


def test_filters_of_three_channels_keep_their_colours():
    weights = np.array([[1, 0, -1], [0, 0, 0]])[:, :, None, None] * np.ones((3, 3))
    mosaic = filters.filter_mosaic(weights, 1)
    assert np.all(tile(mosaic, 0, 0, 3) == [255, 128, 0])
    assert np.all(tile(mosaic, 0, 1, 3) == 128)


def test_of_many_channels_each_is_a_tile_and_a_row_is_a_filter(rng):
    weights = rng.random((2, 4, 3, 3))
    mosaic = filters.filter_mosaic(weights, 1)
    assert np.array_equal(
        tile(mosaic, 1, 2, 3), tile(filters.filter_mosaic(weights[1:, 2:3], 1), 0, 0, 3)
    )
    assert filters.filter_picture(weights).shape[0] > 2 * filters.TILE


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_filters_without_a_range_are_drawn(value):
    assert filters.filter_picture(np.full((2, 1, 3, 3), value)).dtype == np.uint8


def test_filters_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"\(F, C, k, k\), got \(16, 25\)"):
        filters.filter_picture(np.zeros((16, 25)))


# --- all pictures -------------------------------------------------------------------------------

CURVES = {
    "train_loss": [1.0, 0.5], "valid_loss": [1.1, 0.6], "train_acc": [0.5, 0.9],
    "valid_acc": [0.4, 1.0], "lr": [0.1, 0.01],
}  # fmt: skip


HISTORY = [
    {"epoch": 1, "train_acc": 0.5, "valid_acc": 0.4, "data_loss": 1.0, "l2_loss": 0.1},
    {"epoch": 2, "train_acc": 0.6, "valid_acc": 0.5, "data_loss": 0.9, "l2_loss": 0.2},
]
HISTORY = [{**row, "train_loss": 1.0, "valid_loss": 1 / row["epoch"]} for row in HISTORY]
DATA = SimpleNamespace(title="generated images, not MNIST", note="not the real data")


def draw_everything(folder, rng):
    plots.plot_training_progress(folder, CURVES, "a note", title="train", means=True)
    plots.draw_filters_before_after(folder / "filters.png", *rng.random((2, 16, 1, 5, 5)))
    plots.draw_filters_before_after(folder / "colours.png", *rng.random((2, 4, 3, 2, 2)), "title")
    plots.draw_conv_filters(1, 2, rng.random((4, 3, 2, 2)), folder)
    plots.draw_confusion_matrix(folder / "matrix.png", np.eye(3, dtype=int), ["a", "b", "chat"])
    images = rng.integers(256, size=(7, 28, 28, 1), dtype=np.uint8)
    plots.draw_mistakes(folder / "worst.png", images, ["true: a\nb"] * 7, "title", "a note")
    run = {"weight_decay": 0.1, "history": HISTORY, "test_acc": 0.5}
    run["before"], run["after"] = rng.random((2, 16, 1, 5, 5))
    comparisons.draw_l2_comparison(folder / "l2.png", [run] * 4, DATA)
    maker = {"filters": run["after"], "history": HISTORY, "test_acc": 0.5}
    makers = [{**maker, "name": name} for name in ("NumPy", "PyTorch")]
    comparisons.draw_side_by_side(folder / "makers.png", makers, DATA)
    curves = [{"name": name, "histories": [HISTORY] * 2} for name in ("cross_entropy", "hinge")]
    recalls = {"cross_entropy": [0.5, 0.6, 0.7], "hinge": [0.6, 0.4, 0.7]}
    comparisons.draw_loss_comparison(folder / "losses.png", curves, ["a", "b", "c"], recalls, DATA)


def test_every_picture_is_written_and_no_figure_stays_open(tmp_path, rng):
    num_threads = threading.active_count()
    draw_everything(tmp_path, rng)
    names = {"colours", "epoch_01_step_000002", "filters", "l2", "losses", "makers", "matrix"}
    names |= {"training_plot", "worst"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in names}
    for path in tmp_path.iterdir():
        assert np.ptp(imread(path)) > 100  # not blank
    assert pyplot.get_fignums() == []
    gc.collect()
    assert threading.active_count() <= num_threads


def test_no_mistakes_and_no_epochs_are_pictures_too(tmp_path):
    plots.draw_mistakes(tmp_path / "worst.png", np.zeros((0, 28, 28, 1), np.uint8), [])
    plots.plot_training_progress(tmp_path, {key: [] for key in CURVES})
    plots.draw_confusion_matrix(tmp_path / "matrix.png", np.zeros((2, 2), int), ["a", "b"])
    assert len(list(tmp_path.iterdir())) == 3


def test_curves_of_one_epoch_at_a_rate_just_below_a_power_of_ten(tmp_path):
    curves = {key: values[:1] for key, values in CURVES.items()}
    plots.plot_training_progress(tmp_path, {**curves, "lr": [np.nextafter(0.1, 0)]})


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.1, 0.1, 0.01, 0.01], True),
        ([0.1, 0.1], False),  # no range
        ([0.05, 0.1, 0.05, 1e-6], False),  # a ramp
        ([0.1, 0.1, 0.0], False),  # no logarithm
        ([0.05, 0.1, 0.1], False),  # constant after a warm-up
        ([0.05, 0.1, 0.1, 0.01], True),
        ([], False),
    ],
)
def test_only_steps_of_the_learning_rate_ask_for_a_logarithmic_axis(rates, expected):
    assert plots.is_staircase(rates) is expected


@pytest.fixture
def panels(monkeypatch):
    """The figures that are drawn, as {title of a panel: its axes}, and "" for the whole figure."""
    drawn = []

    def save(figure):
        titles = {axes.get_title(): axes for axes in figure.axes}
        drawn.append({**titles, "": figure})

    monkeypatch.setattr(figures, "_pixels", save)
    monkeypatch.setattr(figures, "_write", lambda path, image: None)
    return drawn


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_rates_may_be_lists_as_get_lr_of_pytorch_gives_them(tmp_path):
    plots.plot_training_progress(tmp_path / "numbers", CURVES)
    in_lists = {**CURVES, "lr": [[rate] for rate in CURVES["lr"]]}
    plots.plot_training_progress(tmp_path / "lists", in_lists)
    pictures = [imread(tmp_path / name / "training_plot.png") for name in ("numbers", "lists")]
    assert np.array_equal(*pictures)


def curves_at(rates):
    return {key: [0.5] * len(rates) for key in CURVES} | {"lr": rates}


@pytest.mark.parametrize(
    ("rates", "style", "scale"),
    [
        ([0.1, 0.1, 0.01], "steps-mid", "log"),
        ([0.02, 0.01, 0.0], "default", "linear"),
        ([0.1, 0.1, 0.1], "default", "linear"),
        ([0.0], "default", "linear"),
    ],
)
def test_rates_are_steps_or_a_line_from_zero_on(panels, rates, style, scale):
    plots.plot_training_progress("folder", curves_at(rates))
    axes = panels[0]["Learning rate"]
    (line,) = axes.lines
    assert (line.get_drawstyle(), axes.get_yscale()) == (style, scale)
    if scale == "linear":
        low, high = axes.get_ylim()
        assert low == 0
        assert max(rates) < high


def test_curves_name_run_and_accuracy_and_say_what_is_a_mean(panels):
    plots.plot_training_progress("folder", CURVES)
    plots.plot_training_progress("folder", CURVES, title="train, MNIST", means=True)
    assert panels[0][""].get_suptitle() == "validation 100.00% after epoch 2"
    assert panels[1][""].get_suptitle() == "train, MNIST, validation 100.00% after epoch 2"
    assert labels(panels[0]["Loss"]) == ["training", "validation"]
    assert labels(panels[1]["Loss"]) == [
        "training, mean over the epoch",
        "validation, after the epoch",
    ]


def test_classes_stand_in_the_legend_as_their_lines_end(panels):
    data = {**curves_at([0.1, 0.1]), "class_acc": [[0.1, 0.9], [0.3, 0.4]]}
    plots.plot_training_progress("folder", data, class_names=["cat", "dog"])
    axes = panels[0]["Validation accuracy of each class"]
    assert labels(axes) == ["dog, 40 %", "cat, 30 %"]


def test_what_training_changed_has_a_scale_of_its_own(panels, rng):
    before = rng.uniform(-1, 1, (8, 1, 5, 5))
    plots.draw_filters_before_after("path", before, before + 0.001, "train, MNIST")
    assert panels[0][""].get_suptitle() == "train, MNIST"
    limits = [axes.child_axes[0].get_ylim()[1] for axes in panels[0][""].axes]
    assert limits[0] == limits[1] == filters.scale_limit(before, before + 0.001)
    assert limits[2] < 0.002
    rows = [image.get_array() for image in panels[0][""].findobj(AxesImage)]
    change = filters.filter_mosaic(np.full(before.shape, 0.001), limits[2])
    assert any(np.array_equal(row, change) for row in rows)


def test_all_weight_decays_are_curves_of_one_panel_and_validation_chooses(panels, rng):
    filters_of_both = dict(zip(("before", "after"), rng.random((2, 8, 1, 3, 3)), strict=True))
    worse = [{**row, "valid_acc": 0.1} for row in HISTORY]
    runs = [
        {"weight_decay": 0.1, "history": HISTORY, "test_acc": 0.3, **filters_of_both},
        {"weight_decay": 0.5, "history": worse, "test_acc": 0.7, **filters_of_both},
    ]
    comparisons.draw_l2_comparison("path", runs, DATA)
    choice = "validation chooses λ = 0.1, validation 50.00%, test 30.00%"
    title = f"L2 regularization, generated images, not MNIST: {choice}"
    assert panels[0][""].get_suptitle() == title
    for name in ("Validation accuracy in %", "Data loss of the validation images"):
        assert len(panels[0][name].lines) == 2
        assert panels[0][name].get_legend() is None


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (4, 1, 5, 5)])
@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_losses_of_zero_and_other_filters_are_compared_too(panels, rng, shape, loss):
    history = [{**row, "l2_loss": loss, "train_acc": 1.0, "valid_acc": 1.0} for row in HISTORY]
    decay = {"weight_decay": 0.0, "history": history, "test_acc": 1.0}
    decay["before"] = decay["after"] = rng.random(shape)
    comparisons.draw_l2_comparison("path", [decay], DATA)
    scale = "log" if loss else "linear"
    assert panels[0]["Regularization loss"].get_yscale() == scale
    maker = {"history": history, "test_acc": 1.0, "filters": decay["after"]}
    other = {**maker, "filters": rng.random((8, 1, 3, 3))}
    comparisons.draw_side_by_side("path", [{**maker, "name": "a"}, {**other, "name": "b"}], DATA)
    assert ("b − a, on a scale of its own" in panels[1]) == (shape == (8, 1, 3, 3))


def test_where_curves_coincide_their_difference_is_drawn(panels, rng):
    makers = []
    for name, more in (("NumPy", 0), ("PyTorch", 1e-6)):
        history = [{**row, "valid_acc": row["valid_acc"] + more} for row in HISTORY]
        makers.append({"name": name, "history": history, "test_acc": 0.5})
        makers[-1]["filters"] = rng.random((8, 1, 3, 3))
    comparisons.draw_side_by_side("path", makers, DATA)
    axes = panels[0]["Accuracy in percentage points, PyTorch − NumPy"]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert np.allclose(drawn["training"], 0)
    assert np.allclose(drawn["validation"], 1e-4, rtol=1e-6, atol=0)
    assert DATA.title in panels[0][""].get_suptitle()


def test_the_bars_of_recall_name_the_loss_that_is_better(panels):
    curves = [{"name": name, "histories": [HISTORY]} for name in ("cross_entropy", "hinge")]
    recalls = {"cross_entropy": [0.5, 0.6], "hinge": [0.75, 0.5]}
    comparisons.draw_loss_comparison("path", curves, ["cat", "dog"], recalls, DATA)
    bars = panels[0]["Test recall, hinge minus cross-entropy"]
    assert labels(bars) == ["cross-entropy is better", "hinge is better"]
    assert {"+25.0", "−10.0"} <= {text.get_text() for text in bars.texts}
    widths = {box.get_label(): [bar.get_width() for bar in box] for box in bars.containers}
    assert np.allclose(widths["hinge is better"], [25, 0])
    lines = panels[0]["Accuracy in %, a line a seed"].lines
    colors = {line.get_label().partition(",")[0]: line.get_color() for line in lines}
    assert bars.containers[1][0].get_facecolor() == to_rgba(colors["hinge"])


def contrast(one, other):
    """Of two colours, by WCAG 2."""
    linear = [np.array(to_rgba(color)[:3]) for color in (one, other)]
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in linear]
    low, high = sorted(c @ [0.2126, 0.7152, 0.0722] for c in linear)
    return (high + 0.05) / (low + 0.05)


def test_lines_numbers_and_notes_are_seen_on_white(panels):
    assert all(contrast(color, "white") > 4.5 for color in (*figures.COLORS, figures.NOTE))
    for share in (1, 42, 43, 100):  # numbers are black up to 42 %
        counts = np.array([[100 - share, share], [share, 100 - share]])
        plots.draw_confusion_matrix("path", counts, ["a", "b"])
        (axes,) = (a for title, a in panels[-1].items() if title.startswith("Confusion"))
        (image,) = axes.images
        number = axes.texts[0]
        cell = image.cmap(image.norm(image.get_array()[0, 0]))
        assert contrast(number.get_color(), cell) > 4.3


def test_a_disk_that_is_full_ends_the_run_and_leaves_the_older_picture(tmp_path, monkeypatch):
    path = tmp_path / "training_plot.png"
    path.write_text("old")

    def fail(path, content):
        path.write_text("half")
        raise OSError(28, "disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.plot_training_progress(tmp_path, CURVES)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["training_plot.png"]


@pytest.mark.parametrize("accuracy", [0.5, 1.0])
def test_a_rate_of_zero_and_a_perfect_run_are_drawn(tmp_path, accuracy):
    keys = ["train_loss", "valid_loss", "train_acc", "valid_acc"]
    plots.plot_training_progress(tmp_path, {**{key: [accuracy] for key in keys}, "lr": [0.0]})
    assert (tmp_path / "training_plot.png").exists()


def test_the_accuracy_of_each_class_takes_the_place_of_the_error(tmp_path):
    keys = ["train_loss", "valid_loss", "train_acc", "valid_acc", "lr"]
    data = {**{key: [0.5, 0.6] for key in keys}, "class_acc": [[0.1, 0.2], [0.3, 0.4]]}
    plots.plot_training_progress(tmp_path, data, class_names=["cat", "dog"])
    assert (tmp_path / "training_plot.png").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_stand_edge_to_edge(tmp_path, rng, channels):
    images = rng.integers(256, size=(2, 3, 4, 5, channels), dtype=np.uint8)
    plots.draw_tiles(tmp_path / "tiles.png", images)
    mosaic = imread(tmp_path / "tiles.png").reshape(8, 15, channels)
    assert np.array_equal(mosaic[4:8, 5:10], images[1, 1])


def test_a_chart_takes_its_colours_from_the_page_and_shares_no_id_with_another():
    lines = [("a < b", [1, 2], [3.0, 4.0]), ("c", [1, 2], [1.0, 2.0]), ("c", [1], [0.5])]
    first, second = (charts.chart_svg(title, lines) for title in ["Loss & error"] * 2)
    tree = ElementTree.fromstring(first)
    assert tree.get("aria-label") == "Loss & error; in the last epoch: a < b 4, c 2, c 0.5"
    points = json.loads(tree.get("data-points"))
    assert points["epochs"] == ["1", "2"]
    assert [line["texts"] for line in points["lines"]] == [["3", "4"], ["0.75", "2"]]
    assert [len(line["y"]) for line in points["lines"]] == [1, 2]
    for name in ("--ink", "--line-1", "--line-2"):
        assert f"var({name})" in first
    ids = [set(re.findall(r'\bid="([^"]+)"', chart)) for chart in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for reference in re.findall(r'(?:url\(|href=")#([^")]+)', first):
        assert reference in ids[0]
    assert "http://www.w3.org" in first  # the name spaces; nothing is to be loaded
    assert not re.search(r"(src|@import)", first)


@pytest.mark.parametrize(("log", "middle"), [(False, 5.5), (True, 10**0.5)])
def test_a_chart_tells_where_its_values_are(log, middle):
    """A value in the middle of an axis is in the middle of the picture."""
    lines = [("", [1, 2, 3], [1.0, middle, 10.0]), ("long", [3], [middle])]
    svg = charts.chart_svg("x", lines, log=log)
    points = json.loads(ElementTree.fromstring(svg).get("data-points"))
    first, second = (line["y"][0] for line in points["lines"])
    assert points["bottom"] > first[0] > first[1] > first[2] > points["top"]
    assert first[1] == pytest.approx((points["bottom"] + points["top"]) / 2, abs=0.2)
    assert points["x"][1] == pytest.approx((points["x"][0] + points["x"][2]) / 2, abs=0.2)
    assert second == [None, None, first[1]]
    markers = [tuple(map(float, place)) for place in re.findall(r'<use.* x="(.*?)" y="(.*?)"', svg)]
    for place in zip(points["x"], first, strict=True):
        assert any(place == pytest.approx(marker, abs=0.1) for marker in markers)


def test_of_a_long_run_some_values_can_be_read_the_last_among_them():
    epochs = list(range(1, 2001))
    chart = charts.chart("x", [("", epochs, [1.0] * 1999 + [0.25])])
    points = json.loads(ElementTree.fromstring(chart["svg"]).get("data-points"))
    assert (chart["num"], chart["last"]) == (curves.MAX_POINTS, "2000")
    assert len(points["epochs"]) == len(points["x"]) == curves.MAX_POINTS
    assert chart["key"][0]["value"] == points["lines"][0]["texts"][-1] == "0.25"
    assert chart["svg"].count("<use") < 100


def test_a_chart_is_logarithmic_only_where_it_can_be():
    assert "10" in charts.chart_svg("x", [("", [1, 2], [1e-4, 1e-1])])
    charts.chart_svg("x", [("", [1, 2], [0.0, 1.0])])
    charts.chart_svg("x", [("", [1], [1.0])], log=True)


# --- in any surroundings ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("latex could not\nbe found"), OSError("no font")])
def test_a_picture_that_cannot_be_drawn_is_a_line_of_warning(tmp_path, monkeypatch, capsys, error):
    path = tmp_path / "training_plot.png"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Figure, "draw", fail)
    plots.plot_training_progress(tmp_path, CURVES)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    warning = f"warning: plot_training_progress was not drawn: {reason}\n"
    assert capsys.readouterr().err == warning
    assert charts.chart_svg("x", [("", [1], [1.0])]) is None
    plots.draw_conv_filters(1, 1, np.zeros((16, 25)), tmp_path)
    assert "expected weights of shape (F, C, k, k)" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_users_settings_change_no_picture_and_are_left_as_they_were(tmp_path, rng):
    users = {"text.usetex": True, "savefig.bbox": "tight", "font.size": 30, "savefig.format": "pdf"}
    draw_everything(tmp_path / "plain", rng)
    expected = charts.chart_svg("x", [("", [1, 2], [1.0, 2.0])])
    with mpl.rc_context(users):
        draw_everything(tmp_path / "changed", np.random.default_rng(0))
        assert charts.chart_svg("x", [("", [1, 2], [1.0, 2.0])]).count("<") == expected.count("<")
        assert {name: mpl.rcParams[name] for name in users} == users
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (tmp_path / "changed" / path.name).read_bytes()


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no such one"])
def test_pictures_are_drawn_whatever_backend_the_environment_names(tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    (tmp_path / "file").write_text("")
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        from support import plots
        import numpy
        curves = {CURVES}
        plots.draw_conv_filters(0, 0, numpy.eye(2).reshape(1, 1, 2, 2), "pictures")
        plots.plot_training_progress("pictures", curves)
        assert os.environ["MPLBACKEND"] == {backend!r}
    """
    for more in ({}, {"MPLCONFIGDIR": str(tmp_path / "file")}):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "MPLBACKEND": backend, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, "")
        assert "Traceback" not in done.stderr
        (tmp_path / "pictures" / "training_plot.png").unlink()
