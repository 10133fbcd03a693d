import dataclasses
import json
import shutil
from pathlib import Path

from support import torch_training
from support.errors import Interrupted, RunError
from support.locks import unlock
from support.run import Run

import numpy as np
import pytest
import torch
from torch.nn import functional

import pytorch_cifar
from conftest import run_files
from strong import lab_network, network, teach, teacher, training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tiny_cifar, tmp_path_factory):
    """A run's folder of the stronger network."""
    save_dir = str(tmp_path_factory.mktemp("teacher"))
    options = {
        "save_dir": save_dir,
        "device": "cpu",
        "threads": 1,
        "size": "small",
        "bfloat16": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.SIZES, "small", ((8, 16, 16), False))
        training.run(training.Config(epochs=1, batch_size=30, **options), tiny_cifar)
    return f"{save_dir}/pytorch_cifar"


@pytest.fixture
def config(trained, tmp_path, monkeypatch):
    """Options of a short run with that teacher."""
    monkeypatch.setitem(network.SIZES, "small", ((8, 16, 16), False))
    options = {"save_dir": str(tmp_path), "device": "cpu", "epochs": 1, "threads": 1}
    return teach.Config(teacher=trained, all_images=False, **options)


def test_the_loss_by_hand():
    student, wanted = torch.tensor([[8 * np.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    # at temperature 8: p = (1/2, 1/2), q = (3/4, 1/4)
    divergence = 0.5 * np.log(2 / 3) + 0.5 * np.log(2)
    loss = teacher.distillation_loss(torch.tensor(5.0), student, wanted).item()
    assert loss == pytest.approx(0.05 * 5 + 0.95 * 64 * divergence)


def test_an_equal_student_has_nothing_to_learn_from_its_teacher(rng):
    logits = torch.tensor(rng.standard_normal((7, 10)), requires_grad=True)
    labels = torch.tensor(rng.integers(10, size=7))
    label_loss = functional.cross_entropy(logits, labels)
    loss = teacher.distillation_loss(label_loss, logits, logits.detach())
    assert loss.item() == pytest.approx(0.05 * label_loss.item())
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (of_labels,) = torch.autograd.grad(label_loss, logits)
    assert torch.allclose(ours, 0.05 * of_labels)


def test_the_teacher_is_the_network_of_the_run_and_sees_both_sides(config, trained, tiny_cifar):
    model = teacher.load(config.teacher, False, CPU)
    saved = torch.load(f"{trained}/model.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    images, labels = torch_training.on_device(tiny_cifar.train_x, tiny_cifar.train_y, CPU)
    logits = teacher.teacher_logits(model, images, labels)
    expected = torch_training.predict(model, images)
    expected = (expected + torch_training.predict(model, images.flip(3))) / 2
    assert torch.allclose(logits, expected, atol=1e-5)
    mirrored = teacher.teacher_logits(model, images.flip(3), labels)
    assert torch.allclose(logits, mirrored, atol=1e-5)


def test_a_student_is_taught_what_belongs_to_its_images(config, tiny_cifar, monkeypatch):
    """And it goes down along the loss that it is given: a constant one teaches it nothing."""
    places = {image.tobytes(): n for n, image in enumerate(tiny_cifar.train_x)}
    numbers, given = [], []

    def jittered(images, *_):
        numbers.extend(places[image.tobytes()] for image in images.numpy())
        return images

    def loss(label_loss, student, soft_labels):
        given.extend(soft_labels)
        return 0 * label_loss

    wanted = torch.arange(60 * 10, dtype=torch.float32).view(60, 10)
    monkeypatch.setattr(teach, "teacher_logits", lambda *_: wanted)
    monkeypatch.setattr(teach, "distillation_loss", loss)
    monkeypatch.setattr(teach, "jittered", jittered)
    config.batch_size, config.weight_decay, config.average = 25, 0, False
    teach.run(config, tiny_cifar)
    assert torch.equal(torch.stack(given), wanted[numbers])
    untaught = pytorch_cifar.ConvolutionalModel(np.random.default_rng(0)).state_dict()
    saved = torch.load(f"{config.save_dir}/teach/model.pt", weights_only=True)
    for name in ("fc2.weight", "fc_logits.weight", "fc_logits.bias"):  # these are not normalized
        assert torch.equal(saved[name], untaught[name])


def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(
    config, trained, tiny_cifar, tmp_path
):
    options = json.loads((Path(trained) / "config.json").read_text())
    lab, of_all_images = tmp_path / "lab", tmp_path / "all"
    for folder, changes in ((lab, {"model": "lab"}), (of_all_images, {"all_images": True})):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(options | changes))
        shutil.copy(f"{trained}/model.pt", folder)
    damaged = [tmp_path / f"damaged_{n}" for n in range(3)]
    for folder, content in zip(damaged, (b"", b"abc", b"no model"), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(options))
        (folder / "model.pt").write_bytes(content)
    for folder, message in (
        (tmp_path / "nowhere", "No such file"),
        (lab, "not a run of --model strong"),
        (of_all_images, "was trained with the validation images; leave out --no-all-images"),
        *((folder, "cannot be used: .") for folder in damaged),
    ):
        config.teacher = str(folder)
        with pytest.raises(RunError, match=message):
            teach.run(config, tiny_cifar)
    assert not (tmp_path / "teach").exists()
    assert teacher.load(str(of_all_images), True, CPU) is not None


@pytest.fixture
def normalized(rng):
    """A NormalizedModel whose statistics and biases are not those it began with, and images."""
    model = lab_network.NormalizedModel(rng)
    images = torch.from_numpy(rng.standard_normal((50, 3, 32, 32)).astype(np.float32)) + 0.3
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.fc1):
            layer.bias.normal_()
        for _ in range(5):
            model(images)
    return model, images


def test_normalization_takes_mean_and_variance_out_of_a_batch(normalized, monkeypatch):
    model, images = normalized
    outputs = []

    def normalized(h, layer):
        outputs.append((layer, normalize(h, layer)))
        return outputs[-1][1]

    normalize = model.normalized
    monkeypatch.setattr(model, "normalized", normalized)
    with torch.no_grad():
        model(images)
    assert [layer for layer, _ in outputs] == [model.conv1, model.conv2, model.fc1]
    for layer, h in outputs:
        variances, means = torch.var_mean(h.transpose(0, 1).flatten(1), dim=1, correction=0)
        assert torch.allclose(means, layer.bias, atol=1e-5)
        assert torch.allclose(variances, torch.ones_like(variances), atol=1e-3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 449_898


def test_a_folded_model_is_the_labs_and_has_the_same_outputs(normalized):
    model, images = normalized
    expected = torch_training.predict(model, images)
    folded = model.folded()
    lab = pytorch_cifar.ConvolutionalModel(np.random.default_rng(0))
    lab.load_state_dict(folded.state_dict())
    by_lab = torch_training.predict(lab, images)
    assert torch.allclose(by_lab, torch_training.predict(folded, images), rtol=1e-4, atol=1e-4)
    assert torch.allclose(torch_training.predict(folded, images), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch_training.predict(model, images), expected)  # it was left alone
    assert not torch.allclose(folded.conv1.weight, model.conv1.weight, rtol=0.1)


def test_what_a_training_leaves_is_the_labs_network(config, tiny_cifar, tmp_path):
    teach.run(config, tiny_cifar)
    assert {path.name for path in (tmp_path / "teach").iterdir()} == run_files("pt")
    saved = torch.load(tmp_path / "teach" / "model.pt", weights_only=True)
    pytorch_cifar.ConvolutionalModel(np.random.default_rng(0)).load_state_dict(saved)


def test_an_interrupted_teaching_is_resumed_with_the_same_bits(
    config, tiny_cifar, tmp_path, monkeypatch
):
    def train(name, **options):
        teach.run(
            dataclasses.replace(config, save_dir=str(tmp_path / name), epochs=2, **options),
            tiny_cifar,
        )
        return torch.load(tmp_path / name / "teach" / "model.pt", weights_only=True)

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


def test_without_a_teacher_it_does_not_start(capsys):
    with pytest.raises(SystemExit):
        teach.main([])
    assert "error: --teacher is missing: the folder of a run" in capsys.readouterr().err
