import csv
import json
from types import SimpleNamespace

from support import files, tables
from support.run import HISTORY_COLUMNS

import numpy as np
import pytest
import torch
from skimage.io import imread

import fast_layers as layers
import nn
import pytorch_mnist
import train
import train_l2reg
from conftest import run_files

SMALL = ("--dataset", "synthetic", "--train-size", 300, "--epochs", 2, "--threads", 2)
ON_CPU = (*SMALL, "--device", "cpu")


def test_the_same_network_with_the_same_initial_weights():
    model = pytorch_mnist.ConvolutionalModel(np.random.default_rng(3))
    arrays = nn.parameters(train.build_net(layers, 5, np.random.default_rng(3))).values()
    for ours, theirs in zip(arrays, model.parameters(), strict=True):
        assert np.array_equal(ours.reshape(theirs.shape), theirs.detach().numpy())


@pytest.mark.parametrize("weight_decay", [0, 0.01])
def test_outputs_losses_and_gradients_equal_the_hand_written_ones(rng, digits, weight_decay):
    model = pytorch_mnist.ConvolutionalModel(np.random.default_rng(3))
    net = train.build_net(layers, 50, np.random.default_rng(3))
    x, labels = digits.train_x[:50], digits.train_y[:50]
    y = np.eye(10, dtype=np.float32)[labels]
    loss = train_l2reg.regularized_loss(layers, net, weight_decay)
    logits, theirs = nn.forward_pass(net, x), model(torch.from_numpy(x))
    np.testing.assert_allclose(logits, theirs.detach(), rtol=0, atol=1e-4)
    total = torch.nn.functional.cross_entropy(theirs, torch.from_numpy(labels))
    total = total + pytorch_mnist.l2_loss(model, weight_decay)
    assert total.item() == pytest.approx(loss.forward(logits, y), rel=1e-5)
    total.backward()
    grads = {}
    for *pairs, _name in nn.backward_pass(net, loss, logits, y):
        for array, grad in pairs:
            grads[id(array)] = grads.get(id(array), 0) + grad
    for array, theirs in zip(nn.parameters(net).values(), model.parameters(), strict=True):
        ours, largest = grads[id(array)].reshape(theirs.shape), theirs.grad.abs().max().item()
        np.testing.assert_allclose(ours, theirs.grad, rtol=0, atol=1e-4 * largest)


def test_side_by_side_with_the_numpy_run_of_the_same_weight_decay(script, tmp_path):
    assert script("train_l2reg.py", *SMALL, "--weight-decay", 0.01).returncode == 0
    done = script("pytorch_mnist.py", *ON_CPU)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "pytorch_mnist"
    assert {path.name for path in folder.iterdir()} == run_files(
        "pt", "comparison.png", "comparison.csv"
    )
    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert len(rows) == 2
    for row in rows:
        for key in ("train_loss", "valid_loss"):
            assert float(row[f"numpy_{key}"]) == pytest.approx(
                float(row[f"pytorch_{key}"]), abs=1e-3
            )
    assert imread(folder / "comparison.png").ndim == 3
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert weights["conv2.weight"].shape == (32, 16, 5, 5)
    results = json.loads((folder / "results.json").read_text())
    assert (results["status"], results["device"]) == ("finished", "cpu")


def test_without_a_numpy_run_or_beside_another_one_it_says_so(script, tmp_path):
    options = (*ON_CPU, "--weight-decay", 0, "--epochs", 1)
    done = script("pytorch_mnist.py", *options)
    assert done.returncode == 0, done.stderr
    assert "no finished NumPy run with the same λ" in done.stdout
    assert script("train.py", *SMALL, "--epochs", 1, "--seed", 1).returncode == 0
    done = script("pytorch_mnist.py", *options)
    assert done.returncode == 0, done.stderr
    assert "no comparison with the NumPy run, which is another one: seed 1 and 0" in done.stdout
    assert not (tmp_path / "out" / "pytorch_mnist" / "comparison.png").exists()


def compare(save_dir):
    """Put a made-up run beside what lies in save_dir/train."""
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": 1}
    results = {"num_train": 100, "test_acc": 0.5}
    run = SimpleNamespace(folder=save_dir / "pytorch_mnist", history=[row], results=results)
    run.folder.mkdir(exist_ok=True)
    config = pytorch_mnist.Config(save_dir=str(save_dir), weight_decay=0)
    images = SimpleNamespace(title="MNIST", note="")
    pytorch_mnist.compare(config, run, np.ones((4, 1, 5, 5)), images)


@pytest.fixture
def numpy_run(tmp_path):
    """A run of a network as large as the lab's, whose first layer has filters of 3x3."""
    folder = tmp_path / "train"
    folder.mkdir()
    row = dict.fromkeys(HISTORY_COLUMNS, 0.25) | {"epoch": 1}
    tables.write_table(folder / "history.csv", HISTORY_COLUMNS, [row])
    files.write_json(folder / "results.json", {"status": "finished", "test_acc": 0.25})
    arrays = {"0.conv1.weights": np.ones((4, 9)), "7.fc3.weights": np.zeros((512, 800))}
    files.write_arrays(folder / "model.npz", arrays)
    return folder


def test_a_network_with_other_filters_is_compared_too(numpy_run, capsys):
    compare(numpy_run.parent)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "test accuracy: NumPy 25.00%, PyTorch 50.00%"
    assert lines[-2].split()[:3] == ["1", "0.25000", "0.50000"]
    assert (numpy_run.parent / "pytorch_mnist" / "comparison.png").exists()


@pytest.mark.parametrize("name", ["results.json", "history.csv", "model.npz"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_numpy_run_that_cannot_be_read_is_no_comparison(numpy_run, capsys, name, damaged):
    (numpy_run / name).unlink()
    if damaged:
        (numpy_run / name).write_bytes(b"\xff")
    compare(numpy_run.parent)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("no finished NumPy run with the same λ to compare with: ")
    assert (f"train/{name} cannot be read" in line) == damaged


@pytest.mark.parametrize("status", ["interrupted", "diverged", "running", 3])
def test_a_numpy_run_that_is_not_finished_is_no_comparison(numpy_run, capsys, status):
    files.write_json(numpy_run / "results.json", {"status": status, "test_acc": 0.25})
    compare(numpy_run.parent)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("no finished NumPy run with the same λ to compare with: ")


@pytest.mark.parametrize(
    "weights",
    [np.ones(4), np.array(1.0), np.ones((0, 25)), np.array([["a"]]), np.full((4, 9), np.nan)],
)
def test_filters_that_are_none_are_no_comparison(numpy_run, capsys, weights):
    files.write_arrays(numpy_run / "model.npz", {"0.conv1.weights": weights})
    compare(numpy_run.parent)
    [line] = capsys.readouterr().out.splitlines()
    assert "train/model.npz cannot be read: its filters are none" in line


def test_the_learning_rates_of_task_1():
    assert pytorch_mnist.LR_POLICY == train.LR_POLICY
    config = pytorch_mnist.Config(lr_scale=2)
    rates = [pytorch_mnist.learning_rate(config, epoch) for epoch in (1, 2, 3, 8, 9)]
    assert rates == [0.2, 0.2, 0.02, 2e-4, 2e-4]


def test_l2_leaves_out_biases_and_the_last_layer():
    model = pytorch_mnist.ConvolutionalModel(np.random.default_rng(0))
    before = pytorch_mnist.l2_loss(model, 0.1).item()
    with torch.no_grad():
        model.fc_logits.weight += 1
        model.conv1.bias += 1
    assert pytorch_mnist.l2_loss(model, 0.1).item() == before
    squares = sum(
        layer.weight.detach().double().square().sum().item()
        for layer in (model.conv1, model.conv2, model.fc1)
    )
    assert before == pytest.approx(0.05 * squares, rel=1e-5)
    assert layers.L2Regularizer(np.ones(4), 0.1, "l2").forward() == pytest.approx(0.2)
