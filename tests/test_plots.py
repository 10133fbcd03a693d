import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

from support import comparisons, plots
from support.page import charts

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from skimage.io import imread

from conftest import ROOT

Z = plots.FILTER_ZOOM


def test_draw_conv_filters_writes_the_lab_name_enlarged(tmp_path, rng):
    weights = rng.standard_normal((16, 1, 5, 5))
    before = weights.copy()
    plots.draw_conv_filters(3, 200, weights, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_03_step_000200.png"]
    image = imread(tmp_path / "epoch_03_step_000200.png")
    assert image.shape == (2 * (5 * Z + 4) + 4, 8 * (5 * Z + 4) + 4, 3)
    assert np.array_equal(weights, before)
    first = image[4 : 4 + 5 * Z, 4 : 4 + 5 * Z, 0].reshape(5, Z, 5, Z)
    assert np.all(first == first[:, :1, :, :1])  # enlarged without interpolation
    scaled = (weights[0, 0] - weights.min()) / np.ptp(weights) * 255
    assert np.array_equal(first[:, 0, :, 0], np.rint(scaled))


def test_filters_in_colour_and_of_many_channels(rng):
    assert plots.filter_mosaic(rng.random((3, 3, 5, 5))).shape == (
        5 * Z + 8,
        3 * (5 * Z + 4) + 4,
        3,
    )
    assert plots.filter_mosaic(rng.random((2, 4, 3, 3))).shape[1] == 4 * (3 * Z + 4) + 4


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_filters_without_a_range_are_drawn(value):
    assert plots.filter_mosaic(np.full((2, 1, 3, 3), value)).dtype == np.uint8


def test_filters_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"\(F, C, k, k\), got \(16, 25\)"):
        plots.filter_mosaic(np.zeros((16, 25)))


CURVES = {
    "train_loss": [1.0, 0.5], "valid_loss": [1.1, 0.6], "train_acc": [0.5, 0.9],
    "valid_acc": [0.4, 1.0], "lr": [0.1, 0.01],
}  # fmt: skip


def draw_everything(folder, rng):
    plots.plot_training_progress(folder, CURVES, "a note")
    plots.draw_filters_before_after(folder / "filters.png", *rng.random((2, 16, 1, 5, 5)))
    plots.draw_confusion_matrix(folder / "matrix.png", np.eye(3, dtype=int), ["a", "b", "chat"])
    images = rng.integers(256, size=(7, 28, 28, 1), dtype=np.uint8)
    plots.draw_mistakes(folder / "worst.png", images, ["true: a\nb"] * 7)
    history = [
        {"epoch": 1, "train_acc": 0.5, "valid_acc": 0.4, "data_loss": 1.0, "l2_loss": 0.1},
        {"epoch": 2, "train_acc": 0.6, "valid_acc": 0.5, "data_loss": 0.9, "l2_loss": 0.2},
    ]
    run = {"weight_decay": 0.1, "history": history, "test_acc": 0.5}
    run["before"], run["after"] = rng.random((2, 16, 1, 5, 5))
    comparisons.draw_l2_comparison(folder / "l2.png", [run] * 2)


def test_every_picture_is_written_and_no_figure_stays_open(tmp_path, rng):
    num_threads = threading.active_count()
    draw_everything(tmp_path, rng)
    names = ["filters.png", "l2.png", "matrix.png", "training_plot.png", "worst.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
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
        ([], False),
    ],
)
def test_only_steps_of_the_learning_rate_ask_for_a_logarithmic_axis(rates, expected):
    assert plots.is_staircase(rates) is expected


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
    texts = [element.text for element in tree.iter() if element.tag.endswith("}text")]
    assert texts.count("a < b") == texts.count("c") == 1
    for name in ("--ink", "--line-1", "--line-2"):
        assert f"var({name})" in first
    ids = [set(re.findall(r'\bid="([^"]+)"', chart)) for chart in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for reference in re.findall(r'(?:url\(|href=")#([^")]+)', first):
        assert reference in ids[0]
    assert "http://www.w3.org" in first  # the name spaces; nothing is to be loaded
    assert not re.search(r"(src|@import)", first)


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

    monkeypatch.setattr(Figure, "savefig", fail)
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
        curves = {CURVES}
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
