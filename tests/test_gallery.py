import dataclasses
import math
import os
import signal
import threading
from contextlib import nullcontext
from types import SimpleNamespace

from support import files, gallery, plots
from support.checkpoints import Position
from support.errors import Diverged, Interrupted
from support.read_runs import Record
from support.run import Run
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
    position = Position(has_means=True)
    parts = {"history": [], "is_finished": False, "writer": Writer(), "position": position}
    return SimpleNamespace(folder=folder, **parts)


def test_curves_are_drawn_after_an_epoch_unless_they_just_were(
    drawn, tiny_cifar, tmp_path, monkeypatch, rng
):
    clock = [100.0]
    monkeypatch.setattr(gallery.time, "monotonic", lambda: clock[0])
    run = new_run(tmp_path)
    weights = rng.standard_normal((4, 3, 5, 5))
    pictures = gallery.Gallery(run, tiny_cifar, lambda: weights)
    run.writer.wait()  # one thread at a time draws
    most = gallery.CURVES_SECONDS
    for epoch, seconds in enumerate([0.1, 9, most - 9.1, 0.2, most], start=1):
        clock[0] += seconds
        run.history.append({"epoch": epoch, "train_loss": 0.5})
        pictures.after_epoch(run.history, is_last=False)
    assert drawn == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    pictures.at_end()
    assert len(drawn) == 3
    clock[0] += most
    run.history.append({"epoch": 6, "train_loss": 0.5})
    pictures.after_epoch(run.history, is_last=True)  # after the test they are drawn anyway
    assert len(drawn) == 3
    pictures.at_end()
    pictures.after_training(np.eye(10)[tiny_cifar.test_y], 0.5)
    assert drawn[3:] == [[1, 2, 3, 4, 5, 6]] * 2


@pytest.mark.parametrize("end", ["signal", "diverged", "no test", "test", "error"])
def test_a_run_that_ends_has_curves_of_all_its_epochs(
    drawn, tiny_cifar, tmp_path, monkeypatch, end
):
    """One that is resumed after its last epoch labels them as a whole one does."""
    ends = {"signal": Interrupted, "diverged": Diverged, "error": ZeroDivisionError}

    monkeypatch.setattr(gallery, "CURVES_SECONDS", math.inf)

    def train(resume):
        with Run.start(tmp_path / "run", {"epochs": 3}, resume) as run:
            run.show(tiny_cifar, lambda: np.zeros((4, 3, 5, 5)))
            run.restore_arrays({"w": np.zeros(1)})
            for _ in run.epochs(3):
                for _ in run.batches(4, 2, seed=0):
                    run.count(0.5, 1, 0.1)
                run.end_epoch(lambda: (0.5, 0.5))
            if end == "signal" and not resume:
                os.kill(os.getpid(), signal.SIGTERM)
            if end == "diverged":
                raise Diverged("planned")
            if end == "error":
                raise ZeroDivisionError
            run.finish((lambda: (np.eye(10)[tiny_cifar.test_y], 0.5)) if end != "no test" else None)
        return run

    with pytest.raises(ends[end]) if end in ends else nullcontext():
        train(resume=False)
    assert [epochs[-1] for epochs in drawn] == ([1] if end == "error" else [1, 3])
    if end in ("signal", "test"):
        run = train(resume=True)
        assert run.position.has_means
        assert run._gallery is None  # nor are the images kept with it
        assert len(drawn) == (3 if end == "signal" else 2)


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


def test_training_figures_are_means_unless_the_run_measures_them(tmp_path):
    for name, measured in (("means", {}), ("measured", {"train_loss": 0.4, "train_acc": 0.5})):
        with Run.start(tmp_path / name) as run:
            run.restore_arrays({"w": np.zeros(1)})
            for _ in run.epochs(1):
                for _ in run.batches(4, 2, seed=0):
                    run.count(0.5, 1, 0.1)
                run.end_epoch(lambda: {"valid_loss": 0.4, "valid_acc": 0.5} | measured)  # noqa: B023
        assert run.position.has_means is not bool(measured)


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
    run.writer.wait()
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
