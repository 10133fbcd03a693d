from support.errors import Diverged, Interrupted
from support.locks import unlock
from support.run import Run

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.resnet import BasicBlock

from conftest import run_files
from strong import resnet


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.random((64, 3, 32, 32)).astype(np.float32) + 0.1)


def test_the_network_is_torchvisions_but_for_the_first_layer(images):
    model = resnet.ResNet()
    assert model(images[:2]).shape == (2, 10)
    theirs = torchvision.models.resnet18(num_classes=10).state_dict()
    ours = model.layers.state_dict()
    others = [name for name in theirs if ours[name].shape != theirs[name].shape]
    assert (others, ours["conv1.weight"].shape) == (["conv1.weight"], (64, 3, 3, 3))
    shapes = []
    model.layers.layer1.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    model(images[:1])
    assert shapes == [(1, 64, 32, 32)]


def test_crops_are_out_of_images_with_4_more_pixels_around(tiny_cifar, tmp_path, monkeypatch):
    shifts = []

    def jittered(images, rng, shift):
        shifts.append(shift)
        raise Diverged("enough")

    monkeypatch.setattr(resnet, "jittered", jittered)
    config = resnet.Config(save_dir=str(tmp_path), device="cpu", threads=1)
    with pytest.raises(Diverged):
        resnet.run(config, tiny_cifar)
    assert shifts == [4]


def test_a_resumed_run_leaves_all_files_and_the_same_bits(tiny_cifar, tmp_path, monkeypatch):
    def resnet10(num_classes):
        """Half as deep."""
        return torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes)

    monkeypatch.setattr(resnet, "resnet18", resnet10)

    def train(name, resume=False):
        options = {"device": "cpu", "threads": 1, "epochs": 2, "batch_size": 30}
        config = resnet.Config(save_dir=str(tmp_path / name), resume=resume, **options)
        resnet.run(config, tiny_cifar)
        return torch.load(tmp_path / name / "pytorch_cifar" / "model.pt", weights_only=True)

    def end_and_stop(run, validate, then=None):
        end_epoch(run, validate, then)
        raise Interrupted(15, "stopped")

    expected = train("whole")
    end_epoch = Run.end_epoch
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Run, "end_epoch", end_and_stop)
        train("stopped")
    resumed = train("stopped", resume=True)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    folder = tmp_path / "stopped" / "pytorch_cifar"
    assert {path.name for path in folder.iterdir()} == run_files("pt")
    resnet.ResNet().layers.load_state_dict(resumed)
