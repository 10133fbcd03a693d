"""The PyTorch scripts where something is missing, small or interrupted."""

import csv
import dataclasses
import sys
import warnings
from importlib.util import find_spec

from support import torch_training
from support.checkpoints import Checkpoints
from support.locks import unlock

import numpy as np
import pytest
import torch

import pytorch_cifar
import pytorch_mnist
from strong import lab_network, training


def test_a_batch_of_one_image_is_normalized_where_it_has_a_variance(rng):
    model = lab_network.NormalizedModel(rng)
    images = torch.from_numpy(rng.standard_normal((50, 3, 32, 32)).astype(np.float32))
    model(images)
    before = {name: value.clone() for name, value in model.named_buffers()}
    logits = model(images[:1])
    assert logits.isfinite().all()
    changed = {
        name for name, value in model.named_buffers() if not torch.equal(value, before[name])
    }
    assert changed == {f"conv{i}.{what}" for i in (1, 2) for what in ("mean", "variance")}


@pytest.mark.parametrize(
    ("network", "options"), [(pytorch_cifar, {"epochs": 2}), (training, {"size": "small"})]
)
def test_a_last_batch_of_one_image_is_trained_with(network, options, tiny_cifar, tmp_path):
    options = {
        "epochs": 1,
        "batch_size": 59,
        "device": "cpu",
        "threads": 1,
        "views": False,
    } | options
    config = network.Config(save_dir=str(tmp_path), **options)
    assert network.run(config, tiny_cifar)["status"] == "finished"


def test_a_network_that_cannot_be_compiled_is_trained_uncompiled(
    tiny_cifar, tmp_path, monkeypatch, capsys
):
    calls = []

    def compiled(model, dynamic):
        assert dynamic is False  # else a resumed run may compile otherwise than a whole one

        def call(x):
            calls.append(len(x))
            raise RuntimeError("no\nC++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setenv("CXX", sys.executable)  # something that is there
    options = {"device": "cpu", "threads": 1, "epochs": 1, "batch_size": 30, "views": False}
    plain, uncompiled = (
        pytorch_cifar.run(
            pytorch_cifar.Config(save_dir=str(tmp_path / name), compile=wanted, **options),
            tiny_cifar,
        )
        for name, wanted in (("plain", False), ("compiled", True))
    )
    assert capsys.readouterr().err.splitlines() == [
        "warning: --compile: going on uncompiled: RuntimeError: no C++ compiler"
    ]
    assert calls == [30]
    assert uncompiled["test_loss"] == plain["test_loss"]


def test_an_error_of_the_network_itself_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: lambda x: model(x))
    model = torch_training.Compiled(torch.nn.Linear(3, 2), torch.device("cuda"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.zeros(1, 4))


def test_without_a_compiler_nothing_is_compiled(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    layer = torch.nn.Linear(3, 2)
    model = torch_training.Compiled(layer, torch.device("cpu"))
    x = torch.ones(2, 3)
    assert torch.equal(model(x), layer(x))
    model(x).sum().backward()
    assert capsys.readouterr().err == (
        "warning: --compile: going on uncompiled: there is no C++ compiler no-such-compiler; "
        "CXX may name another\n"
    )


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
@pytest.mark.parametrize("script", [pytorch_cifar, pytorch_mnist])
def test_tensorboard_reads_each_epoch_of_a_resumed_run_once(
    script, tiny_cifar, digits, tmp_path, monkeypatch
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own, when it is imported
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    class Stopped(Exception):  # noqa: N818 -- an event
        pass

    def train(resume):
        options = {
            "device": "cpu",
            "threads": 1,
            "epochs": 3,
            "batch_size": 30,
            "tensorboard": True,
        }
        config = script.Config(save_dir=str(tmp_path), resume=resume, **options)
        script.run(config, tiny_cifar if script is pytorch_cifar else few)

    few = dataclasses.replace(digits, train_x=digits.train_x[:60], train_y=digits.train_y[:60])
    save = Checkpoints.save
    folder = tmp_path / script.__name__

    def lost(checkpoints, snapshot):  # after the second epoch was logged, before it was saved
        if snapshot.position.epoch == 3:
            raise Stopped
        save(checkpoints, snapshot)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Checkpoints, "save", lost)
        train(resume=False)
    train(resume=True)
    log = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0})
    log.Reload()
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert log.Tags()["scalars"] == [name for name in history[0] if name != "epoch"]
    for name in log.Tags()["scalars"]:
        events = log.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3]
        if name != "seconds":
            values = [float(row[name]) for row in history]
            assert [event.value for event in events] == pytest.approx(values, rel=1e-6)
    assert log.Tags()["images"] == ["confusion_matrix", "filters"]
    for tag, shape in (("confusion_matrix", (10, 10)), ("filters", None)):
        images = log.Images(tag)
        assert [image.step for image in images] == [1, 2, 3]
        assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)
        assert shape in (None, (images[0].height, images[0].width))
