"""Checks of Tasks 3, 4 and the bonus: ours pass, gaps are to do, known mistakes are named."""

import types

import numpy as np
import pytest
import torch
from torch.nn import functional

import check_grads
import hinge_bonus
import pytorch_cifar
import pytorch_mnist
from checks import expected, judge, tasks, torch_checks, torch_expected
from checks.expectations import load

SCRIPTS = {"pytorch_mnist": pytorch_mnist, "pytorch_cifar": pytorch_cifar}
SCRIPTS["hinge_bonus"] = hinge_bonus


def check(name, **changed):
    """The MethodResult of a part, "pytorch_mnist.l2_loss", of a script with other attributes."""
    script = name.partition(".")[0]
    module = types.SimpleNamespace(**{**vars(SCRIPTS[script]), **changed})
    seen = torch_checks.observe(module, script)
    [result] = judge.judge(seen, torch_expected.expected(), [name])
    return result


@pytest.mark.parametrize(("task", "num"), [("3", 2), ("4", 3), ("bonus", 1)])
def test_ours_pass(task, num, capsys):
    assert check_grads.main(["--task", task]) == 0
    assert f"{num} of {num} done" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for script in SCRIPTS for name in tasks.torch_names(script)])
def test_gaps_are_to_do(name, monkeypatch):
    def gap(*args, **kwargs):
        raise NotImplementedError(name)

    script, _, part = name.partition(".")
    if part == "ConvolutionalModel.forward":
        monkeypatch.setattr(SCRIPTS[script].ConvolutionalModel, "forward", gap)
        assert check(name).status == "to do"
    else:
        assert check(name, **{part: gap}).status == "to do"


@pytest.mark.parametrize("mistake", torch_expected.expected().mistakes, ids=lambda m: m.id)
def test_every_known_mistake_is_told_from_all_others(mistake):
    table = torch_expected.expected()
    seen = {key: values[0] for key, values in table.right.items()}
    seen |= mistake.variants[0] | {f"{mistake.method}/parameters": "float32"}
    [result] = judge.judge(seen, table, [mistake.method])
    assert (result.status, result.mistake) == ("FAIL", mistake.id)


def hinge(change):
    def loss(logits, target, delta=1.0):
        is_right = functional.one_hot(target, logits.shape[1]).bool()
        return change(logits - logits[is_right][:, None] + delta, is_right)

    return loss


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (lambda m, r: (m.clamp(min=0) * ~r).sum(), "hinge-summed"),
        (lambda m, r: m.clamp(min=0).sum(1).mean(), "hinge-with-right-class"),
        (lambda m, r: m.clamp(min=0)[~r].mean(), "hinge-averaged-over-wrong-classes"),
        (lambda m, r: (m.clamp(min=0) ** 2 * ~r).sum(1).mean(), "hinge-squared"),
        (lambda m, r: (m.clamp(min=0) * ~r).sum(1).mean().detach() + 0 * m.sum(), None),
    ],
)
def test_a_wrong_hinge_loss_is_named(change, mistake):
    result = check("hinge_bonus.multiclass_hinge_loss", multiclass_hinge_loss=hinge(change))
    assert (result.status, result.mistake) == ("FAIL", mistake)
    right = hinge(lambda m, r: (m.clamp(min=0) * ~r).sum(1).mean())
    assert check("hinge_bonus.multiclass_hinge_loss", multiclass_hinge_loss=right).status == "pass"


def test_a_wrong_evaluation_is_named():
    name = "pytorch_cifar.evaluate"

    def transposed(*args, **kwargs):
        loss, confusion = pytorch_cifar.evaluate(*args, **kwargs)
        return loss, confusion.T

    def dividing(model, images, labels, title="", class_names=None):
        loss, confusion = pytorch_cifar.evaluate(model, images, labels, title)
        print(np.diag(confusion) / confusion.sum(axis=0))
        return loss, confusion

    def training(model, *args):
        with torch.no_grad():
            model.bias += 1
        return pytorch_cifar.evaluate(model, *args)

    assert check(name, evaluate=transposed).mistake == "confusion-transposed"
    result = check(name, evaluate=dividing)
    assert (result.status, result.mistake) == ("FAIL", "zero-over-zero")
    assert check(name, evaluate=training).mistake == "model-changed"


def test_a_loss_with_a_gradient_is_a_loss_nevertheless():
    def evaluate(model, images, *arguments):
        loss, confusion = pytorch_cifar.evaluate(model, images, *arguments)
        return torch.tensor(float(loss), requires_grad=True), confusion

    assert check("pytorch_cifar.evaluate", evaluate=evaluate).status == "pass"


def test_what_is_missing_or_cannot_be_made_is_said(monkeypatch):
    script = types.SimpleNamespace(__file__="hinge_bonus.py")
    seen = torch_checks.observe(script, "hinge_bonus")
    [result] = judge.judge(seen, torch_expected.expected(), ["hinge_bonus.multiclass_hinge_loss"])
    assert "hinge_bonus.py: it has no multiclass_hinge_loss" in result.message

    def broken(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(pytorch_mnist.ConvolutionalModel, "__init__", broken)
    assert "ZeroDivisionError" in check("pytorch_mnist.l2_loss").message


def test_wrong_worst_mistakes_are_named():
    def smallest(logits, labels, losses, num=20):
        return pytorch_cifar.worst_mistakes(logits, labels, -losses, num)

    name = "pytorch_cifar.worst_mistakes"
    assert check(name, worst_mistakes=smallest).mistake == "worst-smallest-loss"


def test_a_wrong_network_is_named(monkeypatch):
    name = "pytorch_mnist.ConvolutionalModel.forward"
    right = pytorch_mnist.ConvolutionalModel.forward
    monkeypatch.setattr(
        pytorch_mnist.ConvolutionalModel, "forward", lambda self, x: right(self, x).relu()
    )
    assert check(name).mistake == "model-relu-at-the-end"

    def l2(model, weight_decay):
        return weight_decay / 2 * sum(p.square().sum() for p in model.parameters())

    assert check("pytorch_mnist.l2_loss", l2_loss=l2).mistake == "l2-loss-of-all-parameters"


def test_a_hand_outs_file_holds_these_numbers_too(tmp_path):
    expected.save(tmp_path / "expected.npz")
    right = load(tmp_path / "expected.npz").right
    assert right.keys() >= torch_expected.expected().right.keys()
