from types import SimpleNamespace

from support import gallery, plots

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


def test_curves_are_drawn_after_an_epoch_unless_they_just_were(
    drawn, tiny_cifar, tmp_path, monkeypatch, rng
):
    clock = [100.0]
    monkeypatch.setattr(gallery.time, "monotonic", lambda: clock[0])
    run = SimpleNamespace(folder=tmp_path, history=[], is_finished=False)
    weights = rng.standard_normal((4, 3, 5, 5))
    pictures = gallery.Gallery(run, tiny_cifar, lambda: weights)
    for epoch, seconds in enumerate([0.1, 3, 1.9, 0.2, 60], start=1):
        clock[0] += seconds
        row = {"epoch": epoch}
        pictures.after_epoch(row)
        run.history.append(row)
    assert drawn == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    clock[0] += 0.1
    run.history.append({"epoch": 6})
    pictures.after_training(np.eye(10)[tiny_cifar.test_y], 0.5)
    assert drawn[3:] == [[1, 2, 3, 4, 5, 6]]
