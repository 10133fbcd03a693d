import json
import shutil
from pathlib import Path

from support.errors import RunError
from support.options import parse

import numpy as np
import pytest
import torch
from torch.nn import functional

import distillation
import pytorch_cifar
import strong_model
import torch_training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def taught(tiny_cifar, tmp_path_factory):
    """A run's folder of the stronger network."""
    save_dir = str(tmp_path_factory.mktemp("teacher"))
    options = {"save_dir": save_dir, "device": "cpu", "size": "small", "bfloat16": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(strong_model.SIZES, "small", ((8, 16, 16), False))
        pytorch_cifar.run(strong_model.Config(epochs=1, batch_size=30, **options), tiny_cifar)
    return f"{save_dir}/pytorch_cifar"


@pytest.fixture
def config(taught, tmp_path, monkeypatch):
    """Options of a short run with that teacher."""
    monkeypatch.setitem(strong_model.SIZES, "small", ((8, 16, 16), False))
    options = {"save_dir": str(tmp_path), "device": "cpu", "epochs": 1, "threads": 1}
    return pytorch_cifar.Config(teacher=taught, **options)


def test_the_loss_by_hand():
    student, teacher = torch.tensor([[8 * np.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    # at temperature 8: p = (1/2, 1/2), q = (3/4, 1/4)
    divergence = 0.5 * np.log(2 / 3) + 0.5 * np.log(2)
    loss = distillation.loss(torch.tensor(5.0), student, teacher).item()
    assert loss == pytest.approx(0.05 * 5 + 0.95 * 64 * divergence)


def test_an_equal_student_has_nothing_to_learn_from_its_teacher(rng):
    logits = torch.tensor(rng.standard_normal((7, 10)), requires_grad=True)
    labels = torch.tensor(rng.integers(10, size=7))
    label_loss = functional.cross_entropy(logits, labels)
    loss = distillation.loss(label_loss, logits, logits.detach())
    assert loss.item() == pytest.approx(0.05 * label_loss.item())
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (of_labels,) = torch.autograd.grad(label_loss, logits)
    assert torch.allclose(ours, 0.05 * of_labels)


def test_there_is_a_teacher_only_if_asked_for(config, tiny_cifar):
    argv = ["--teacher", config.teacher]
    assert parse(pytorch_cifar.Config, argv, "words").teacher == config.teacher
    untaught = parse(pytorch_cifar.Config, [], "words")
    assert distillation.load(untaught, "elsewhere", tiny_cifar.train_x, CPU) is None


def test_the_teacher_is_the_network_of_the_run_and_sees_both_sides(config, taught, tiny_cifar):
    teacher = distillation.load(config, "elsewhere", tiny_cifar.train_x, CPU)
    saved = torch.load(f"{taught}/model.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in teacher.state_dict().items())
    images, labels = torch_training.on_device(tiny_cifar.train_x, tiny_cifar.train_y, CPU)
    logits = distillation.logits(teacher, images, labels)
    expected = torch_training.predict(teacher, images)
    expected = (expected + torch_training.predict(teacher, images.flip(3))) / 2
    assert torch.allclose(logits, expected, atol=1e-5)
    mirrored = distillation.logits(teacher, images.flip(3), labels)
    assert torch.allclose(logits, mirrored, atol=1e-5)


def test_a_student_is_taught_what_belongs_to_its_images(config, tiny_cifar, monkeypatch):
    """And it goes down along the loss that it is given: a constant one teaches it nothing."""
    order, seen = [], []

    def jittered(self, images, indices, *_):
        order.extend(indices)
        return images

    def loss(label_loss, student, teacher):
        seen.extend(teacher)
        return 0 * label_loss

    wanted = torch.arange(60 * 10, dtype=torch.float32).view(60, 10)
    monkeypatch.setattr(distillation, "logits", lambda *_: wanted)
    monkeypatch.setattr(distillation, "loss", loss)
    monkeypatch.setattr(pytorch_cifar.Recipe, "jittered", jittered)
    config.batch_size, config.weight_decay, config.average = 25, 0, False
    pytorch_cifar.run(config, tiny_cifar)
    assert torch.equal(torch.stack(seen), wanted[order])
    untaught = pytorch_cifar.ConvolutionalModel(np.random.default_rng(0)).state_dict()
    saved = torch.load(f"{config.save_dir}/pytorch_cifar/model.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in untaught.items())


def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(
    config, taught, tiny_cifar, tmp_path
):
    options = json.loads((Path(taught) / "config.json").read_text())
    lab, seen_all = tmp_path / "lab", tmp_path / "all"
    for folder, changes in ((lab, {"model": "lab"}), (seen_all, {"all_images": True})):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(options | changes))
        shutil.copy(f"{taught}/model.pt", folder)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text(json.dumps(options))
    (damaged / "model.pt").write_bytes(b"no model")
    for folder, message in (
        (tmp_path / "nowhere", "No such file"),
        (lab, "not a run of --model strong"),
        (seen_all, "has seen the validation images; add --all-images"),
        (damaged, "cannot be used"),
        (tmp_path / "pytorch_cifar", "choose another"),
    ):
        config.teacher = str(folder)
        with pytest.raises(RunError, match=message):
            pytorch_cifar.run(config, tiny_cifar)
    assert not (tmp_path / "pytorch_cifar").exists()
    config.teacher, config.all_images = str(seen_all), True
    assert distillation.load(config, "elsewhere", tiny_cifar.train_x, CPU) is not None
