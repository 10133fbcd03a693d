import csv
import json
import re

import numpy as np
import pytest

import check_grads
import fast_layers
import layers as plain_layers
import nn
import train
from checks import gradient_table, tasks, timing
from conftest import ROOT

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
    table = out.partition("9 of 9 done\n")[2]
    assert len(errors) == table.count("  pass")
    assert "40 of 40 below 1e-05" in table
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
    said = failures(capsys)
    assert f"{name}.backward_params" in said
    assert re.search(
        f"gradient of the {('weights|filters', 'bias')[which]} has the wrong sign", said
    )


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


# --- a student's file ---------------------------------------------------------------------------


def student_file(folder, *replacements):
    source = (ROOT / "tests/student_layers.py").read_text(encoding="utf-8")
    for old, new in replacements:
        assert source.count(old) == 1
        source = source.replace(old, new)
    path = folder / "my_layers.py"
    path.write_text(source, encoding="utf-8")
    return str(path)


def test_a_file_with_the_interface_of_the_exercise_passes(tmp_path, capsys, save_dir):
    assert check_grads.main(["--layers", student_file(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "9 of 9 done" in out
    assert "Convolution 3x3 stride 2: TypeError" in out
    assert "network: conv1.weights" in out
    methods = json.loads((save_dir / "check_grads/results.json").read_text())["methods"]
    assert methods == dict.fromkeys(tasks.ALL, "pass")


def test_gaps_are_listed_and_the_rest_is_checked(tmp_path, capsys, save_dir):
    gaps = (
        ("return inputs @ self.weights.T + self.bias", "pass"),
        ("grad_bias = np.sum(grads, axis=0)\n", "grad_bias = ...\n"),
        ("grad_weights = self.weight_decay * self.weights", "grad_weights = ..."),
        ("return grads * (self.inputs > 0)", "return grads * (self.inputs > 1)"),
    )
    assert check_grads.main(["--layers", student_file(tmp_path, *gaps)]) == 1
    out = capsys.readouterr().out
    assert "Task 1: 4 of 7 done; next: FC.forward\nTask 2: 1 of 2 done" in out
    assert "5 of 9 done" in out
    line = re.search(r"5 of 9 done\n\ngradients of what is complete: (\d+) of (\d+) below", out)
    assert line[1] == line[2] != "0"
    table = (save_dir / "check_grads/gradients.csv").read_text()
    assert "Convolution 3x3 SAME: x" in table
    assert "SoftmaxCrossEntropyWithLogits: x" in table
    for name in ("ReLU", "FC", "L2Regularizer", "RegularizedLoss", "network"):
        assert name not in table


def test_what_the_exercise_gives_is_listed_where_it_is_wrong(tmp_path, capsys):
    wrong = "out[:, :, y, z] = window.max(axis=2)", "out[:, :, y, z] = window.mean(axis=2)"
    assert check_grads.main(["--layers", student_file(tmp_path, wrong)]) == 1
    out = capsys.readouterr().out
    assert "MaxPooling.forward                             FAIL   it takes the mean" in out
    assert "9 of 10 done" in out


def test_only_one_class_or_method(tmp_path, capsys):
    forward = "self.inputs = inputs\n        return inputs @"
    prints = forward, forward.replace("return", "print('seen')\n        return")
    path = student_file(tmp_path, prints)
    assert check_grads.main(["--layers", path]) == 0
    assert "seen" not in capsys.readouterr().out
    assert check_grads.main(["--layers", path, "--only", "FC"]) == 0
    out = capsys.readouterr().out
    assert "seen" in out
    assert "3 of 3 done" in out
    assert "ReLU" not in out
    assert check_grads.main(["--only", "L2Regularizer.forward"]) == 0
    assert "1 of 1 done" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"--only: expected one of FC, .* got 'Fc'"):
        check_grads.main(["--only", "Fc"])


def test_a_file_that_cannot_be_imported_is_said_with_its_line(tmp_path):
    path = student_file(tmp_path, ("class ReLU:", "class ReLU"))
    with pytest.raises(SystemExit, match=r"my_layers.py cannot be imported: SyntaxError: .*\n"
                       r"    my_layers.py:\d+: class ReLU"):  # fmt: skip
        check_grads.main(["--layers", path])


def failures(capsys):
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "FAIL" in line)


# --- what numeric gradients cost ----------------------------------------------------------------


def test_both_sides_are_medians_of_calls_in_turns(monkeypatch):
    """A load that comes and goes, and a slow first call, change nothing."""
    now, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def lasts(name, seconds):
        def function():
            calls.append(name)
            now[0] += seconds * (100 if len(calls) < 10 or len(calls) % 20 < 5 else 1)

        return function

    assert timing.in_turns([lasts("a", 1), lasts("b", 3)]) == [1, 3]
    assert calls[:4] == ["a", "b", "a", "b"]


def test_the_cost_is_given_with_one_digit(capsys):
    cost = {"num_params": 337, "analytic_seconds": 0.000412, "numeric_seconds": 0.1449}
    gradient_table.why_analytic(cost, check_grads.LAB_PARAMETERS, check_grads.LAB_STEPS)
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "takes about 0.1 s and the analytic one 0.4 ms, about 400 times less",
        "it would be about 900,000 times", "would take about 2 years",
    ):  # fmt: skip
        assert words in said
    assert gradient_table.rounded(cost) == {
        "num_params": 337, "analytic_seconds": 0.0004, "numeric_seconds": 0.1,
    }  # fmt: skip
