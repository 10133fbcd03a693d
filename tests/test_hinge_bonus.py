import csv
import json
from types import SimpleNamespace

from support import data

import numpy as np
import pytest
import torch

import hinge_bonus


def test_hinge_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.5], [4.0, 0.0, -1.0]])
    # right class 1: max(0, 1 - 3 + 1) + max(0, 2.5 - 3 + 1) = 0.5; right class 0: 0
    assert hinge_bonus.multiclass_hinge_loss(logits, torch.tensor([1, 0])).item() == 0.25
    # delta 2: 0 + 1.5 and 0 + 0
    assert hinge_bonus.multiclass_hinge_loss(logits, torch.tensor([1, 0]), 2.0).item() == 0.75


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (3, 1)])
def test_hinge_equals_torch_and_its_gradient(rng, shape, delta):
    logits = torch.tensor(rng.standard_normal(shape), requires_grad=True)
    target = torch.tensor(rng.integers(shape[1], size=shape[0]))
    loss = hinge_bonus.multiclass_hinge_loss(logits, target, delta)
    assert loss.shape == ()
    # PyTorch takes the mean over the classes
    expected = shape[1] * torch.nn.functional.multi_margin_loss(logits, target, margin=delta)
    assert loss.item() == pytest.approx(expected.item())
    (ours,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(ours, theirs)


def test_hinge_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        hinge_bonus.multiclass_hinge_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))


def test_at_the_start_the_hinge_gradient_is_nine_times_larger():
    """All logits alike: nine classes violate the margin, and each pushes with 1."""
    logits = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0])
    (hinge,) = torch.autograd.grad(hinge_bonus.multiclass_hinge_loss(logits, target), logits)
    (entropy,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target), logits)
    assert (hinge[0, 0] / entropy[0, 0]).item() == pytest.approx(10)


def test_both_losses_several_seeds_a_table_and_a_figure(tiny_cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load_cifar10", lambda *_: tiny_cifar)
    options = ["--save-dir", str(tmp_path), "--epochs", "1", "--seeds", "2", "--threads", "1"]
    options += ["--device", "cpu", "--no-average", "--no-views"]
    hinge_bonus.main(options)
    folder = tmp_path / "hinge_bonus"
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "comparison.csv",
        "comparison.png",
        "config.json",
        "cross_entropy",
        "cross_entropy_seed_1",
        "hinge",
        "hinge_seed_1",
    ]
    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert [row["loss"] for row in rows] == ["cross_entropy", "hinge"]
    assert all(row["runs"] == "2" for row in rows)
    for row in rows:
        names = row["loss"], f"{row['loss']}_seed_1"
        results = [json.loads((folder / name / "results.json").read_text()) for name in names]
        first, second = (result["test_acc"] for result in results)
        assert float(row["test_acc_mean"]) == pytest.approx((first + second) / 2)
        assert float(row["test_acc_deviation"]) == pytest.approx(abs(first - second) / 2**0.5)
    assert (folder / "hinge" / "worst_20.png").exists()
    hinge_bonus.main(["--save-dir", str(tmp_path), "--resume"])  # with the options it had
    assert capsys.readouterr().out.count("nothing to resume") == 4


def test_rates_are_tuned_without_the_images_that_they_are_tuned_on(
    tiny_cifar, tmp_path, monkeypatch
):
    seen = {}

    def train_in_folder(path, config, cifar, *_):
        seen.setdefault(path.parent.name, set()).add((len(cifar.train_y), config.all_images))
        return SimpleNamespace(history=[{"valid_acc": 0.5}])

    monkeypatch.setattr(hinge_bonus.pytorch_cifar, "train_in_folder", train_in_folder)
    monkeypatch.setattr(hinge_bonus, "compare", lambda *_: None)
    config = hinge_bonus.Config(save_dir=str(tmp_path), device="cpu", tune=True, all_images=True)
    hinge_bonus.run(config, tiny_cifar)
    # train_in_folder itself adds the validation images
    assert seen == {"tuning": {(60, False)}, "hinge_bonus": {(60, True)}}


def test_one_run_has_no_deviation(tiny_cifar, tmp_path, capsys):
    results = {"test_acc": 0.5, "recall": dict.fromkeys(tiny_cifar.class_names, 0.5)}
    done = SimpleNamespace(
        history=[{"epoch": 1, "train_acc": 0.5, "valid_acc": 0.5}], results=results
    )
    columns = [{"name": name, "lr": 0.1, "runs": [done]} for name in ("cross_entropy", "hinge")]
    hinge_bonus.compare(tmp_path, columns, tiny_cifar)
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert [row["test_acc_deviation"] for row in rows] == ["", ""]
    assert capsys.readouterr().out.count("50.00% ± –") == 4


def test_rates_are_halved_and_doubled_while_that_helps(tiny_cifar, tmp_path, monkeypatch):
    best = {"cross_entropy": 0.08, "hinge": 0.002}

    def valid_acc(path, trial, *_):
        return -abs(np.log(trial.lr / best[path.name.rsplit("_", 1)[0]]))

    monkeypatch.setattr(hinge_bonus, "valid_acc", valid_acc)
    config = hinge_bonus.Config(lr=0.02, hinge_lr=0.002)
    config = hinge_bonus.tuned(config, tiny_cifar, tmp_path, torch.device("cpu"))
    assert (config.lr, config.hinge_lr) == (0.08, 0.002)
    rows = list(csv.DictReader((tmp_path / "tuning.csv").read_text().splitlines()))
    tried = [(row["loss"], float(row["lr"])) for row in rows]
    assert tried == [
        *(("cross_entropy", lr) for lr in (0.01, 0.02, 0.04, 0.08, 0.16)),
        *(("hinge", lr) for lr in (0.001, 0.002, 0.004)),
    ]
