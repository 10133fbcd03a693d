import csv
import json

from support.errors import RunError

import numpy as np
import pytest
from skimage.io import imread

import fast_layers as layers
import train
import train_l2reg


def test_three_weights_are_regularized_and_no_bias(rng):
    net = train.build_net(layers, 2, rng)
    loss = train_l2reg.regularized_loss(layers, net, 0.1)
    assert [part.name for part in loss.regularizer_losses] == [
        "conv1_l2reg",
        "conv2_l2reg",
        "fc3_l2reg",
    ]
    assert all(part.weight_decay == 0.1 for part in loss.regularizer_losses)
    ours = [layer.weights for layer in net if layer.has_params][:3]
    for part, weights in zip(loss.regularizer_losses, ours, strict=True):
        assert part.weights is weights
    logits, y = rng.standard_normal((2, 10)), np.eye(10)[[3, 4]]
    data_loss = layers.SoftmaxCrossEntropyWithLogits().forward(logits, y)
    l2_loss = sum(0.05 * np.sum(np.square(weights)) for weights in ours)
    assert loss.forward(logits, y) == pytest.approx(data_loss + l2_loss, rel=1e-6)


def test_one_folder_a_weight_decay_and_a_comparison(script, tmp_path):
    options = ["--dataset", "synthetic", "--train-size", 200, "--epochs", 2]
    options += ["--threads", 1, "--weight-decay", 0.001, 0.1]
    done = script("train_l2reg.py", *options)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "train_l2reg"
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "comparison.csv",
        "comparison.png",
        "config.json",
        "lambda_0.001",
        "lambda_0.1",
    ]
    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["weight_decay"]) for row in rows] == [0.001, 0.1]
    for row in rows:
        results = json.loads(
            (folder / f"lambda_{row['weight_decay']}" / "results.json").read_text()
        )
        assert results["status"] == "finished"
        assert float(row["test_acc"]) == results["test_acc"]
        with (folder / f"lambda_{row['weight_decay']}" / "history.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        total = float(row["data_loss"]) + float(row["l2_loss"])
        assert total == pytest.approx(float(last["valid_loss"]))
    assert float(rows[0]["l2_loss"]) < float(rows[1]["l2_loss"])
    assert imread(folder / "comparison.png").shape[0] > 1000

    again = script("train_l2reg.py", "--resume")  # with the options it had
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to resume") == 2
    assert list(csv.DictReader((folder / "comparison.csv").read_text().splitlines())) == rows


def test_no_weight_decay_is_task_1(script, tmp_path):
    options = ["--dataset", "synthetic", "--train-size", 100, "--epochs", 1, "--threads", 2]
    assert script("train.py", *options).returncode == 0
    done = script("train_l2reg.py", *options, "--weight-decay", 0)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    with (
        np.load(out / "train" / "model.npz") as plain,
        np.load(out / "train_l2reg" / "lambda_0" / "model.npz") as regularized,
    ):
        assert plain.files == regularized.files
        assert all(np.array_equal(plain[name], regularized[name]) for name in plain.files)


def test_a_negative_weight_decay_is_refused(script, tmp_path):
    done = script("train_l2reg.py", "--weight-decay", "-1")
    assert done.returncode == 2
    assert "--weight-decay: expected a number of at least 0, got -1.0" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_weight_decays_of_one_folder_are_refused():
    with pytest.raises(RunError, match=r"expected different values, got 0\.01 0\.01"):
        train_l2reg.Config(weight_decay=[0.01, 0.010000001])
