import csv
import re

import numpy as np
import pytest

import check_grads
import fast_layers
import layers as plain_layers
import nn
import train

BOTH = pytest.mark.parametrize("layers", [plain_layers, fast_layers], ids=lambda m: m.__name__)


@pytest.fixture(autouse=True)
def save_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("SAVE_DIR", str(tmp_path))
    return tmp_path


@BOTH
def test_all_gradients_pass(layers, capsys, save_dir):
    assert check_grads.main(["--layers", layers.__name__]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "821,706 parameters" in out
    errors = np.array([float(error) for error in re.findall(r" (\d\.\de[+-]\d\d)  ", out)])
    assert len(errors) == out.count("  pass")
    assert errors.max() < 1e-5
    assert np.mean(errors < 1e-7) > 0.5
    with (save_dir / "check_grads" / "gradients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["passed"] for row in rows] == ["True"] * len(errors)
    np.testing.assert_allclose([float(row["error"]) for row in rows], errors, rtol=0.06)


def test_the_labs_network_is_as_large_as_stated(rng):
    arrays = nn.parameters(train.build_net(plain_layers, 1, rng)).values()
    assert sum(array.size for array in arrays) == check_grads.LAB_PARAMETERS


LAYERS = ["Convolution", "MaxPooling", "ReLU", "Flatten", "FC"]
LAYERS += ["SoftmaxCrossEntropyWithLogits", "RegularizedLoss"]


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_a_flipped_sign_in_backward_inputs_fails(layers, name, monkeypatch, capsys):
    layer = getattr(layers, name)
    right = layer.backward_inputs
    monkeypatch.setattr(layer, "backward_inputs", lambda self, *args: -right(self, *args))
    assert check_grads.main(["--layers", layers.__name__]) == 1
    assert name in failures(capsys)


@BOTH
@pytest.mark.parametrize("which", [0, 1], ids=["weights", "bias"])
@pytest.mark.parametrize("name", ["Convolution", "FC"])
def test_a_flipped_sign_in_backward_params_fails(layers, name, which, monkeypatch, capsys):
    layer = getattr(layers, name)
    right = layer.backward_params

    def flipped(self, grad_out):
        grads = right(self, grad_out)
        grads[which][1] = -grads[which][1]
        return grads

    monkeypatch.setattr(layer, "backward_params", flipped)
    assert check_grads.main(["--layers", layers.__name__]) == 1
    assert ("weights", "bias")[which] in failures(capsys)


def test_a_flipped_sign_in_the_regularizer_fails(monkeypatch, capsys):
    right = plain_layers.L2Regularizer.backward_params

    def flipped(self):
        [(weights, grad), name] = right(self)
        return [[weights, -grad], name]

    monkeypatch.setattr(plain_layers.L2Regularizer, "backward_params", flipped)
    assert check_grads.main([]) == 1
    assert "L2Regularizer" in failures(capsys)


def test_one_wrong_element_and_a_nan_are_found():
    numeric = np.arange(1.0, 13).reshape(3, 4)
    for wrong in (-8.0, np.nan):
        analytic = numeric.copy()
        analytic[1, 3] = wrong
        result = check_grads.compare("x", analytic, numeric)
        assert result.index == (1, 3)
        assert not result.error < check_grads.TOLERANCE
        assert result.numeric == 8


def test_a_gradient_of_zeros_is_found_wrong_where_it_should_not_be():
    assert check_grads.compare("x", np.zeros(3), np.ones(3)).error == 1
    assert check_grads.compare("x", np.zeros(3), np.zeros(3)).error == 0


def test_ctrl_c_and_a_full_disk_end_it_in_one_line(monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(check_grads, "numeric_gradient", stop)
        check_grads.main([])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.endswith(": stopped\n")
    monkeypatch.setattr(check_grads, "check_network", full)
    with pytest.raises(SystemExit) as stopped:
        check_grads.main([])
    assert stopped.value.code.endswith("No space left on device; make room")


def failures(capsys):
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "FAIL" in line)
