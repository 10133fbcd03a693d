import dataclasses
import threading
from types import SimpleNamespace

from support import files, gallery, plots
from support.read_runs import Record
from support.writer import Writer

import numpy as np
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """The epochs of every picture of the curves that is drawn."""
    drawn = []
    monkeypatch.setattr(
        plots, "plot_training_progress", lambda _, curves, *words: drawn.append(curves["epoch"])
    )
    return drawn


def new_run(folder):
    return SimpleNamespace(folder=folder, history=[], is_finished=False, writer=Writer())


def test_curves_are_drawn_after_an_epoch_unless_they_just_were(
    drawn, tiny_cifar, tmp_path, monkeypatch, rng
):
    clock = [100.0]
    monkeypatch.setattr(gallery.time, "monotonic", lambda: clock[0])
    run = new_run(tmp_path)
    weights = rng.standard_normal((4, 3, 5, 5))
    pictures = gallery.Gallery(run, tiny_cifar, lambda: weights)
    for epoch, seconds in enumerate([0.1, 9, 5.9, 0.2, 60], start=1):
        clock[0] += seconds
        run.history.append({"epoch": epoch, "train_loss": 0.5})
        pictures.after_epoch(run.history, 0.5, is_last=False)
    assert drawn == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    clock[0] += 60
    run.history.append({"epoch": 6, "train_loss": 0.5})
    pictures.after_epoch(run.history, 0.5, is_last=True)  # after the test they are drawn anyway
    assert len(drawn) == 3
    pictures.after_training(np.eye(10)[tiny_cifar.test_y], 0.5)
    assert drawn[3:] == [[1, 2, 3, 4, 5, 6]]


def test_filters_are_drawn_now_and_then_and_after_each_epoch(tiny_cifar, tmp_path, monkeypatch):
    clock, drawn = [100.0], []
    monkeypatch.setattr(gallery.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        plots, "draw_conv_filters", lambda *args: drawn.append((*args[:2], args[2][0]))
    )
    run, weights = new_run(tmp_path), np.zeros(1)
    pictures = gallery.Gallery(run, tiny_cifar, weights.copy)
    for epoch, step, seconds in [(1, 200, 0), (1, 300, 0.9), (2, 200, 1), (2, 201, 9), (2, 300, 0)]:
        clock[0] += seconds
        weights += 1  # as training goes on with them
        run.writer.wait()
        pictures.after_step(epoch, step, 300)
    may_end = threading.Event()
    clock[0] += 9
    run.writer.do(may_end.wait)
    pictures.after_step(3, 200, 300)  # the writer is busy
    may_end.set()
    pictures.after_step(3, 300, 300)
    run.writer.wait()
    assert drawn == [(0, 0, 0), (1, 200, 1), (1, 300, 2), (2, 200, 3), (2, 300, 5), (3, 300, 5)]


@pytest.mark.parametrize(("train_loss", "has_means"), [(0.5, True), (0.4, False)])
def test_training_figures_are_means_unless_the_run_measures_them(
    tiny_cifar, tmp_path, monkeypatch, rng, train_loss, has_means
):
    drawn = []
    monkeypatch.setattr(plots, "plot_training_progress", lambda *words: drawn.append(words))
    weights = rng.standard_normal((4, 3, 5, 5))
    pictures = gallery.Gallery(new_run(tmp_path), tiny_cifar, lambda: weights)
    pictures.after_epoch([{"epoch": 1, "train_loss": train_loss}], 0.5, is_last=False)
    assert drawn[0][-1] is has_means


@pytest.mark.parametrize(
    ("provenance", "name"),
    [
        ("official", "CIFAR-10"),
        ("unverified copy", "CIFAR-10 (unverified copy)"),
        ("generated", "generated images, not CIFAR-10"),
    ],
)
def test_a_title_names_run_data_and_weight_decay(tiny_cifar, tmp_path, provenance, name):
    cifar = dataclasses.replace(tiny_cifar, provenance=provenance)
    folder = tmp_path / "train_l2reg" / "lambda_0.1"
    folder.mkdir(parents=True)
    assert gallery.run_title(folder, cifar) == f"lambda_0.1, {name}"
    files.write_json(folder / "config.json", {"save_dir": str(tmp_path), "weight_decay": 0.1})
    assert gallery.run_title(folder, cifar) == f"train_l2reg/lambda_0.1, {name}, λ = 0.1"


def test_after_the_test_every_picture_has_a_title_and_what_the_page_needs_lies_apart(
    tiny_cifar, tmp_path, monkeypatch, rng
):
    titles = []
    new_figure = plots.new_figure

    def titled(width, height, title, note, **layout):
        titles.append(title)
        return new_figure(width, height, title, note, **layout)

    monkeypatch.setattr(plots, "new_figure", titled)
    weights = rng.standard_normal((4, 3, 5, 5))
    run = new_run(tmp_path)
    pictures = gallery.Gallery(run, tiny_cifar, lambda: weights)
    names = ("train_loss", "valid_loss", "train_acc", "valid_acc", "lr")
    run.history.append({"epoch": 1, **dict.fromkeys(names, 0.5)})
    pictures.after_training(np.eye(10)[(tiny_cifar.test_y + 1) % 10], 0.5)
    assert len(titles) == 4
    assert all(tiny_cifar.title in title for title in titles)
    assert "test 0.00%" in titles[0]
    for_page = {path.name for path in (tmp_path / "page").iterdir()}
    assert for_page == {"confusion_examples.png", "worst_20_images.png"}
    assert not for_page & {path.name for path in tmp_path.iterdir()}
    assert (
        Record(tmp_path).read("worst_20_images.png", lambda path: path.parent.name, None) == "page"
    )
