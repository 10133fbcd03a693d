"""Checks of a student's own code: right ones pass, wrong ones do not, and known ones are named."""

import ast
import io
import linecache
import re
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import right_layers
import student_layers

import bare_layers
import check_grads
from checks import (
    calls,
    cases,
    expectations,
    expected,
    judge,
    loading,
    mistakes,
    probes,
    records,
    tasks,
)
from checks import reference as checks_reference
from checks.comparison import is_same
from conftest import ROOT

SOURCE = (ROOT / "tests/student_layers.py").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def right_numbers():
    return expected.expected()


@pytest.fixture(scope="session")
def other_numbers():
    return expected.expected(5)


@pytest.fixture
def check(right_numbers):
    """The MethodResults of a module with layers, or of one of its methods."""

    def check(layers, *methods):
        only = methods[0] if len(methods) == 1 else None
        return judge.judge(probes.observe(layers, only=only), right_numbers, methods or tasks.ALL)

    return check


def module_of(source, name="student.py"):
    """The module with that text; errors in it show its lines."""
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    module = types.ModuleType("student")
    module.__file__ = name
    exec(compile(source, name, "exec"), vars(module))
    return module


def edited(*replacements):
    source = SOURCE
    for old, new in replacements:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return module_of(source)


# --- what is right passes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", right_layers.SOLUTIONS)
def test_a_right_solution_passes_and_no_mistake_is_named(name, check):
    layers = types.SimpleNamespace(**{**vars(student_layers), **right_layers.SOLUTIONS[name]})
    for result in check(layers):
        assert (result.status, result.message, result.mistake) == ("pass", "", None)


@pytest.mark.parametrize("name", ["layers", "fast_layers", "bare_layers"])
def test_our_layers_pass(name, check):
    assert {result.status for result in check(__import__(name))} == {"pass"}


def test_the_reference_has_the_right_gradients():
    right = {name.partition(".")[0] for name in tasks.ALL}
    results, left_out, _ = check_grads.check_gradients(
        checks_reference, right, np.random.default_rng(0)
    )
    assert len(results) == 31
    assert max(result.error for result in results) < check_grads.TOLERANCE
    assert left_out == []


def test_another_machine_would_draw_the_same_numbers():
    assert cases.raw(0, "x", (3,)).tolist() == [3444053821, 3629869412, 4106615129]
    x = cases.numbers(3, "x", (50, 50))
    assert np.array_equal(x, np.float32(x))
    assert not (x == 0).any()


# --- mistakes are named -------------------------------------------------------------------------

PRODUCT = "inputs @ self.weights.T + self.bias"
GRAD_BIAS = "grad_bias = np.sum(grads, axis=0)\n"
GRAD_WEIGHTS = "grad_weights = grads.T @ self.inputs"
RELU = "np.maximum(inputs, 0)"
RELU_GRAD = "grads * (self.inputs > 0)"
SHIFTED = "shifted = x - x.max(axis=1, keepdims=True)"
LOSS = "np.sum(log_sums - np.sum(y * shifted, axis=1)) / x.shape[0]"
PROBABILITIES = "probabilities = exps / np.sum(exps, axis=1, keepdims=True)"
EXPS = "exps = np.exp(x - np.max(x, axis=1, keepdims=True))"
SOFTMAX_GRAD = "(probabilities - y) / x.shape[0]"
L2 = "self.weight_decay / 2 * np.sum(self.weights**2)"
L2_GRAD = "grad_weights = self.weight_decay * self.weights"
P = "np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)"
TURNED = 'part = np.einsum("nfyx,fc->ncyx", grads, filters[:, :, i, j])'
POOL = "+= grads[n, c, y, z]"
BIAS_4D = "np.sum(grads, axis=(0, 2, 3))"

# (method, what it should be, what it is, id)
PLANTED = [
    ("FC.forward", PRODUCT, "inputs @ self.weights.T", "fc-without-bias"),
    ("FC.forward", PRODUCT, "inputs @ self.weights + self.bias", "fc-product-transposed"),
    ("FC.backward_inputs", "grads @ self.weights\n", "grads @ self.weights.T\n",
     "fc-grad-x-transposed"),
    ("FC.backward_inputs", "grads @ self.weights\n", "grads @ self.weights / self.N\n", None),
    ("FC.backward_inputs", "grads @ self.weights\n", "-grads @ self.weights\n", "fc-grad-x-sign"),
    ("FC.backward_params", GRAD_WEIGHTS, "grad_weights = self.inputs.T @ grads",
     "fc-grad-weights-transposed"),
    ("FC.backward_params", GRAD_WEIGHTS, f"{GRAD_WEIGHTS} / len(grads)",
     "fc-grad-weights-averaged"),
    ("FC.backward_params", GRAD_BIAS, "grad_bias = grads\n", "fc-grad-bias-not-summed"),
    ("FC.backward_params", GRAD_BIAS, "grad_bias = grads.sum(1)\n", "fc-grad-bias-wrong-axis"),
    ("FC.backward_params", GRAD_BIAS, "grad_bias = np.sum(grads)\n", "fc-grad-bias-one-number"),
    ("FC.backward_params", GRAD_BIAS, "grad_bias = grads.mean(0)\n", "fc-grad-bias-averaged"),
    ("FC.backward_params", "        self.inputs = inputs\n        return inputs @",
     "        self.__dict__.setdefault('inputs', inputs)\n        return inputs @",
     "fc-grad-weights-of-first-forward"),
    ("ReLU.forward", RELU, "np.minimum(inputs, 0)", "relu-minimum"),
    ("ReLU.forward", RELU, "np.where(inputs > 0, inputs, inputs / 100)", "relu-leaky"),
    ("ReLU.forward", RELU, "np.maximum(inputs, 0) // 1", "relu-whole-numbers"),
    ("ReLU.forward", f"return {RELU}", "inputs[inputs < 0] = 0\n        return inputs",
     "argument-changed"),
    ("ReLU.backward_inputs", RELU_GRAD, "np.maximum(grads, 0)", "relu-by-sign-of-grad"),
    ("ReLU.backward_inputs", RELU_GRAD, "grads", "relu-grad-let-through"),
    ("ReLU.backward_inputs", RELU_GRAD, "grads * (self.inputs < 0)", "relu-grad-inverted"),
    ("ReLU.backward_inputs", RELU_GRAD, "grads * self.forward(self.inputs)",
     "relu-grad-times-output"),
    ("ReLU.backward_inputs", f"return {RELU_GRAD}",
     "grads[self.inputs < 0] = 0\n        return grads", "argument-changed"),
    ("ReLU.backward_inputs", RELU_GRAD, f"np.float32({RELU_GRAD})", "float32-in-between"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, LOSS.removesuffix(" / x.shape[0]"),
     "loss-summed"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, f"{LOSS} / len(x)", "loss-averaged-twice"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, f"-{LOSS}", "loss-without-minus"),
    ("SoftmaxCrossEntropyWithLogits.forward", SHIFTED, "shifted = x", "loss-without-maximum"),
    ("SoftmaxCrossEntropyWithLogits.forward", SHIFTED, "shifted = x - x.max()",
     "loss-maximum-of-batch"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, f"-np.sum(y * np.log({P})) / len(x)",
     "loss-log-of-zero"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, f"-np.sum(y * np.log({P} + 1e-12)) / len(x)",
     "loss-with-epsilon"),
    ("SoftmaxCrossEntropyWithLogits.forward", LOSS, f"np.float32({LOSS})", "float32-in-between"),
    ("SoftmaxCrossEntropyWithLogits.forward", SHIFTED, "x -= x.max(axis=1, keepdims=True)\n"
     "        shifted = x", "argument-changed"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", SOFTMAX_GRAD, "probabilities - y",
     "grad-not-averaged"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", SOFTMAX_GRAD, f"{SOFTMAX_GRAD} / len(y)",
     "grad-averaged-twice"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", SOFTMAX_GRAD, f"-{SOFTMAX_GRAD}",
     "grad-sign"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", SOFTMAX_GRAD, "(probabilities * y) / len(x)",
     "grad-y-times-softmax"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", SOFTMAX_GRAD, "(probabilities - y) // len(x)",
     "grad-floored"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", EXPS, "exps = np.exp(x)",
     "grad-without-maximum"),
    ("SoftmaxCrossEntropyWithLogits.backward_inputs", PROBABILITIES, "probabilities = exps / "
     "np.sum(exps, axis=0, keepdims=True)", None),
    ("L2Regularizer.forward", L2, L2.replace(" / 2", ""), "l2-without-half"),
    ("L2Regularizer.forward", L2, L2.replace("self.weight_decay", "1"), "l2-without-lambda"),
    ("L2Regularizer.forward", L2, L2.replace("/ 2", "// 2"), "l2-floored"),
    ("L2Regularizer.forward", L2, L2.replace("**2", ""), "l2-not-squared"),
    ("L2Regularizer.backward_params", L2_GRAD, f"{L2_GRAD} / 2", "l2-grad-half"),
    ("L2Regularizer.backward_params", L2_GRAD, f"{L2_GRAD} * 2", "l2-grad-twice"),
    ("L2Regularizer.backward_params", L2_GRAD, "grad_weights = 1 * self.weights",
     "l2-grad-without-lambda"),
    ("L2Regularizer.backward_params", L2_GRAD, "grad_weights = 0 * self.weights", "l2-grad-zero"),
    ("Convolution.backward_inputs", TURNED, TURNED.replace("i, j]", "-1 - i, -1 - j]"),
     "conv-grad-filters-not-turned"),
    ("Convolution.backward_inputs", "+= part", "= part", "conv-grad-overwritten"),
    ("Convolution.backward_params", BIAS_4D, "np.mean(grads, axis=(0, 2, 3))",
     "conv-grad-bias-averaged"),
    ("MaxPooling.forward", "window.max(axis=2)", "window.mean(axis=2)", "pool-mean"),
    ("MaxPooling.backward_inputs", POOL, POOL.replace("+", ""), "pool-grad-overwritten"),
    ("MaxPooling.backward_inputs", "i, j = divmod", "j, i = divmod", "pool-grad-exchanged"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "old", "new", "mistake"), PLANTED)
def test_a_planted_mistake_is_named(method, old, new, mistake, check):
    results = {result.name: result for result in check(edited((old, new)))}
    assert results[method].status == "FAIL"
    assert results[method].mistake == mistake
    assert results[method].message


def test_every_known_mistake_is_told_from_all_others(other_numbers):
    """On other inputs as well; the sentence and its line of mathematics are in the message."""
    assert len(other_numbers.mistakes) >= 35
    for id, method, sentence, formula, attributes in mistakes.KNOWN:
        seen = probes.observe(expected.changed(method, attributes), 5, method)
        [result] = judge.judge(seen, other_numbers, [method])
        assert (result.status, result.mistake) == ("FAIL", id)
        assert result.message.startswith(f"{sentence}: {formula}")


def test_where_none_fits_both_numbers_are_shown(check):
    layers = edited(("grads @ self.weights\n", "1.5 * grads @ self.weights\n"))
    [result] = check(layers, "FC.backward_inputs")
    assert result.mistake is None
    x, y = re.fullmatch(
        r"it differs at \(\d, \d\): got (\S+), expected (\S+)", result.message
    ).groups()
    np.testing.assert_allclose(float(x), 1.5 * float(y), rtol=1e-4)


# --- mutated operators --------------------------------------------------------------------------


def mutants():
    """(method, source) for each operator in the methods that a student writes, replaced."""
    swaps = {ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.Add]}
    swaps |= {ast.Div: [ast.Mult, ast.FloorDiv], ast.Pow: [ast.Mult], ast.MatMult: [ast.Mult]}
    swaps |= {ast.Gt: [ast.GtE, ast.Lt, ast.LtE], ast.USub: [ast.UAdd], ast.FloorDiv: [ast.Div]}
    names = {"max": "min", "maximum": "minimum", "sum": "mean", "exp": "expm1", "log": "log2"}
    names |= {"argmax": "argmin", "T": "real", "bias": "weights"}
    tree = ast.parse(SOURCE)
    for cls in (c for c in tree.body if isinstance(c, ast.ClassDef)):
        for function in (f for f in cls.body if isinstance(f, ast.FunctionDef)):
            method = f"{cls.name}.{function.name}"
            for node in ast.walk(function) if method in tasks.ALL else ():
                before = dict(vars(node))
                for choice in range(3):
                    if mutate(node, choice, swaps, names):
                        yield method, ast.unparse(tree)
                    vars(node).update(before)


def mutate(node, choice, swaps, names):
    """Change a node in place to its choice-th other form; False if it has none."""
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.AugAssign):
        others = swaps.get(type(node.op), [])
        if choice < len(others):
            node.op = others[choice]()
            return True
    elif isinstance(node, ast.Compare):
        others = swaps.get(type(node.ops[0]), [])
        if choice < len(others):
            node.ops = [others[choice]()]
            return True
    elif isinstance(node, ast.Constant) and type(node.value) is int and choice < 2:
        node.value += (1, -1)[choice]
        return True
    elif isinstance(node, ast.Attribute) and node.attr in names and choice == 0:
        node.attr = names[node.attr]
        return True
    return False


def results_of(layers, rng):
    """What all methods return for inputs of their own, kinks and ties left out; or an error."""
    seen = {}

    def keep(name, function, *args):
        with np.errstate(all="ignore"):
            try:
                seen[name] = function(*args)
            except Exception:
                seen[name] = "error"
        return seen[name]

    def layer(name, make, shape, x=None):
        for n in (3, 1):
            x = rng.standard_normal((n, *shape))
            made = make(x)
            out = keep(f"{name}.forward {n}", made.forward, x)
            if isinstance(out, str):
                out = np.zeros(0)
            grads = rng.standard_normal(made.shape)
            keep(f"{name}.backward_inputs {n}", made.backward_inputs, grads)
            if made.has_params:
                for i, part in enumerate(("weights", "bias")):
                    keep(f"{name}.backward_params {part} {n}",
                         lambda g=grads, i=i, made=made: made.backward_params(g)[i][1])  # fmt: skip

    layer("FC", lambda x: layers.FC(x, 4, "fc", bias_initializer_fn=np.ones), (5,))
    layer("ReLU", lambda x: layers.ReLU(x, "relu"), (4, 3))
    for padding in ("SAME", "VALID"):
        layer(f"Convolution.{padding}", lambda x, p=padding: layers.Convolution(
            x, 2, 3, "conv", p, bias_initializer_fn=np.ones), (2, 5, 4))  # fmt: skip
    for size in (2, 3):
        layer(f"MaxPooling.{size}", lambda x, s=size: layers.MaxPooling(x, "p", s, 2), (2, 7, 5))
    loss = layers.SoftmaxCrossEntropyWithLogits()
    for scale in (1, 1000):
        x, y = scale * rng.standard_normal((3, 4)), np.eye(4)[[2, 0, 2]]
        keep(f"SoftmaxCrossEntropyWithLogits.forward {scale}", loss.forward, x, y)
        keep(f"SoftmaxCrossEntropyWithLogits.backward_inputs {scale}", loss.backward_inputs, x, y)
    l2 = layers.L2Regularizer(rng.standard_normal((3, 2)), 0.7, "l2")
    keep("L2Regularizer.forward", l2.forward)
    keep("L2Regularizer.backward_params", lambda: l2.backward_params()[0][1])
    return {k: v if isinstance(v, str) else np.asarray(v, float) for k, v in seen.items()}


def changes_a_result(layers, right):
    seen = results_of(layers, np.random.default_rng(3))
    return not all(is_same(f"{key}/x", seen[key], [right[key]]) for key in right)


def test_mutated_operators_are_caught_and_none_is_named_wrongly(right_numbers, other_numbers):
    right = results_of(student_layers, np.random.default_rng(3))
    counts = {"caught": 0, "named": 0, "equal": 0}
    for method, source in mutants():
        cls = method.partition(".")[0]
        layers = module_of(source, "mutant.py")
        names = [name for name in tasks.ALL if name.startswith(f"{cls}.")]
        seen = probes.observe(layers, only=cls)
        results = judge.judge(seen, right_numbers, names)
        wrong = [result for result in results if result.status != "pass"]
        if not wrong:
            assert not changes_a_result(layers, right), source
            counts["equal"] += 1
            continue
        counts["caught"] += 1
        again = judge.judge(probes.observe(layers, 5, cls), other_numbers, names)
        for first, second in zip(results, again, strict=True):
            assert first.mistake == second.mistake, (first, second)
            counts["named"] += first.mistake is not None
    assert counts["caught"] >= 100, counts
    assert counts["named"] >= 20, counts


# --- what is not there, or of the wrong kind ----------------------------------------------------

GAPS = {
    "raises": 'raise NotImplementedError("Task 1")',
    "pass": "pass",
    "nothing": "return None",
    "constant": "...",
}


def with_gaps(body, names=tasks.NINE):
    """student_layers.py without the bodies of these methods; gradients become `...`."""
    tree = ast.parse(SOURCE)
    for cls in (c for c in tree.body if isinstance(c, ast.ClassDef)):
        for function in (f for f in cls.body if isinstance(f, ast.FunctionDef)):
            if f"{cls.name}.{function.name}" in names:
                if function.name == "backward_params" and body != GAPS["raises"]:
                    for statement in function.body[:-1]:
                        statement.value = ast.Constant(...)
                else:
                    function.body = ast.parse(body).body
    return ast.unparse(tree)


@pytest.mark.parametrize("kind", GAPS)
def test_a_gap_is_to_do(kind, check, tmp_path):
    path = tmp_path / "gaps.py"  # as in a file, so that its source is at hand
    path.write_text(with_gaps(GAPS[kind]))
    results = check(module_of(path.read_text(), str(path)), *tasks.NINE)
    assert {result.status for result in results} == {"to do"}
    lines = judge.report(results).splitlines()
    assert lines[-3:] == [
        "Task 1: 0 of 7 done; next: FC.forward",
        "Task 2: 0 of 2 done; next: L2Regularizer.forward",
        "0 of 9 done",
    ]


def test_a_missing_class_or_method_is_to_do(check):
    [result] = check(types.SimpleNamespace(), "FC.forward")
    assert result.status == "to do"
    name = "def backward_params(self, grads):\n        grad_weights = grads"
    layers = edited((name, name.replace("backward_params", "other")))
    [result] = check(layers, "FC.backward_params")
    assert result.status == "to do"


def test_one_gap_leaves_the_others_checked(check):
    results = check(module_of(with_gaps("pass", ["FC.forward", "ReLU.backward_inputs"])))
    open_ = {result.name for result in results if result.status != "pass"}
    assert open_ == {"FC.forward", "FC.backward_params", "ReLU.backward_inputs"}
    [params] = [result for result in results if result.name == "FC.backward_params"]
    assert "it needs what FC.forward keeps, which is still to do" in params.message


# (method, what it should be, what it is, what is said)
WRONG = [
    ("FC.forward", f"return {PRODUCT}", PRODUCT, "it returns None: is a return missing?"),
    ("FC.forward", PRODUCT, f"({PRODUCT}).tolist()", "it is a list, expected an array of NumPy"),
    ("FC.forward", PRODUCT, f"({PRODUCT}).astype(object)", "elements of type object"),
    ("FC.forward", PRODUCT, f"({PRODUCT}) + 0j", "elements of type complex128"),
    ("FC.forward", PRODUCT, f"({PRODUCT}).T", "it has the shape (5, 4), expected (4, 5)"),
    ("FC.forward", PRODUCT, "np.zeros((2000, 2000))", "it has the shape (2000, 2000)"),
    ("FC.forward", PRODUCT, "1 / 0",
     "ZeroDivisionError: division by zero\n    student.py:27: return 1 / 0"),
    ("FC.forward", f"return {PRODUCT}", "exit(3)", "SystemExit: 3\n    student.py:27: exit(3)"),
    ("FC.forward", "def forward(self, inputs):\n        self.inputs = inputs\n        return in",
     "def forward(self):\n        inputs = 1\n        return in",
     "TypeError: FC.forward() takes 1 positional argument but 2 were given"),
    ("FC.forward", f"return {PRODUCT}", "self.out = getattr(self, 'out', np.zeros((9, 5)))\n"
     f"        self.out[: len(inputs)] = {PRODUCT}\n        return self.out[: len(inputs)]",
     "a second forward changes what the first returned"),
    ("FC.backward_params", "[self.bias, grad_bias], self.name]\n\n\nclass ReLU",
     "[self.bias, grad_bias]]\n\n\nclass ReLU", "2 elements, expected [[weights, grad_weights], "
     "[bias, grad_bias], name]; the name is missing"),
    ("FC.backward_params", GRAD_BIAS, "grad_bias = ...\n", "a part of it is still a gap"),
    ("FC.backward_params", "[[self.weights, grad_weights], [self.bias, grad_bias], self.name]\n\n\n"
     "class ReLU", "[[self.weights.copy(), grad_weights], [self.bias, grad_bias], self.name]\n\n\n"
     "class ReLU", "does not begin with self.weights itself"),
    ("FC.backward_params", GRAD_BIAS, f"{GRAD_BIAS}        self.weights -= 1\n",
     "it changes self.weights itself: self.weights[0, 0] was"),
    ("ReLU.forward", f"return {RELU}", "inputs[inputs < 0] = 0\n        return inputs",
     "it changes x itself: x[0, 0, 0, 1] was -1.05469 and is 0 after the call"),
    ("ReLU.backward_inputs", f"return {RELU_GRAD}",
     f"self.inputs *= 1 + (self.inputs < 0)\n        return {RELU_GRAD}", "it changes x itself"),
    ("FC.forward", PRODUCT, f"np.reshape({PRODUCT}, (self.N, -1))", "with a smaller batch"),
    ("L2Regularizer.backward_params", "grad_weights], self.name]\n\n\nclass Reg",
     "grad_weights]]\n\n\nclass Reg", "expected [[weights, grad_weights], name]"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "old", "new", "said"), WRONG)
def test_a_fault_gets_a_sentence_and_the_students_own_line(method, old, new, said, check):
    [result] = check(edited((old, new)), method)
    assert result.status == "FAIL"
    assert said in result.message
    assert "checks" not in result.message


@pytest.mark.skipif(sys.platform == "win32", reason="no timer")
def test_a_loop_without_end_is_stopped(check, monkeypatch):
    monkeypatch.setattr(calls, "SECONDS", 0.5)
    loop = f"while True:\n            {PRODUCT}"
    results = {r.name: r for r in check(edited((f"return {PRODUCT}", loop)))}
    assert "TimeoutError: still running after 0.5 s" in results["FC.forward"].message
    assert "student.py:2" in results["FC.forward"].message
    assert results["ReLU.forward"].status == "pass"


def test_a_file_may_take_its_time_to_be_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "SECONDS", 1e-9)
    monkeypatch.setitem(sys.modules, "layers", None)  # so that it is afterwards what it was
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text("import sys\nsys.stdout.reconfigure(encoding='utf-8')\n")
    module, failure = loading.load(tmp_path / "mine.py")
    assert (module.__name__, failure) == ("layers", None)


def test_what_is_kept_on_the_class_is_not_the_layers_own(check):
    for name, kept in (("FC", "self.inputs = inputs\n        return inputs @"),
                       ("ReLU", "self.inputs = inputs\n        return np.max")):  # fmt: skip
        on_class = kept.replace("self.inputs =", f"{name}.inputs =")
        results = {r.name: r for r in check(edited((kept, on_class)))}
        method = "FC.backward_params" if name == "FC" else "ReLU.backward_inputs"
        assert results[method].status == "FAIL"
        assert "after another layer of its kind has run" in results[method].message


def test_a_method_that_is_a_lambda_is_no_gap():
    namespace = {}
    exec("f = lambda self, x: None", namespace)
    assert not calls.is_gap(lambda self, x: None)
    assert not calls.is_gap(namespace["f"])


def test_only_some_are_asked_for():
    assert tasks.chosen("FC") == list(tasks.NINE[:3])
    assert tasks.chosen("ReLU.forward") == ["ReLU.forward"]
    with pytest.raises(ValueError, match=r"expected one of FC, ReLU, .* got 'Relu'"):
        tasks.chosen("Relu")


def test_what_a_file_does_not_offer_is_left_out_and_said(check):
    results = check(bare_layers, "Convolution.forward", "MaxPooling.forward")
    assert [result.status for result in results] == ["pass", "pass"]
    text = judge.report(results)
    assert "Convolution stride 2: TypeError" in text
    assert "MaxPooling overlapping windows: AssertionError" in text


# --- files and processes ------------------------------------------------------------------------


def test_what_is_expected_comes_back_from_its_file(tmp_path, right_numbers, check):
    expectations.save(tmp_path / "expected.npz", right_numbers)
    loaded = expectations.load(tmp_path / "expected.npz")
    assert loaded.right.keys() == right_numbers.right.keys()
    assert [m.id for m in loaded.mistakes] == [m.id for m in right_numbers.mistakes]
    seen = probes.observe(edited((L2_GRAD, f"{L2_GRAD} / 2")))
    for one, other in zip(
        judge.judge(seen, loaded, tasks.ALL), judge.judge(seen, right_numbers, tasks.ALL),
        strict=True,
    ):  # fmt: skip
        assert one == other


def test_a_hand_out_reads_the_file_and_needs_no_solution(tmp_path, monkeypatch, right_numbers):
    monkeypatch.setattr(expectations, "FILE", tmp_path / "expected.npz")
    expectations.save(tmp_path / "expected.npz", expectations.Expected(right_numbers.right, []))
    monkeypatch.setitem(sys.modules, "checks.expected", None)
    assert expectations.for_hand_out().mistakes == []


def test_observations_come_back_from_their_file(tmp_path):
    values = {"FC.forward/x y": np.arange(6.0).reshape(2, 3), "a": np.float32(1.5)}
    values |= {"text": "error: λ\ud800", "whole": np.array([1]), "empty": ""}
    records.write(tmp_path / "seen.npz", values)
    seen = records.read(tmp_path / "seen.npz")
    assert seen["text"] == "error: λ\\ud800"
    assert (seen["empty"], seen["a"], seen["a"].dtype) == ("", 1.5, np.float32)
    np.testing.assert_array_equal(seen["FC.forward/x y"], values["FC.forward/x y"])


@pytest.mark.parametrize("kind", ["not a zip", "pickle", "claims more", "large"])
def test_a_strangers_file_is_refused(kind, tmp_path, monkeypatch):
    path = tmp_path / "seen.npz"
    if kind == "not a zip":
        path.write_bytes(b"no zip")
    elif kind == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    elif kind == "claims more":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", header.getvalue())
    else:
        monkeypatch.setattr(records, "MAX_FILE", 100)
        records.write(path, {"x": np.zeros(30)})
    with pytest.raises(ValueError, match=r"zip|large|version|array"):
        records.read(path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOURCE, None),
        ("import numpy as np\ndef f(:\n", "student.py cannot be imported: SyntaxError: invalid "
         "syntax\n    student.py:2: def f(:"),
        ("x = 1\nimport not_there\n", "student.py cannot be imported: ModuleNotFoundError: "
         "No module named 'not_there'\n    student.py:2: import not_there"),
        ("1 / 0\n", "ZeroDivisionError: division by zero\n    student.py:1: 1 / 0"),
        ("print('x' * 10**6)\nclass FC:\n    pass\n", None),
    ],
)  # fmt: skip
def test_the_worker_observes_a_file(source, said, tmp_path, right_numbers):
    (tmp_path / "student.py").write_text(source)
    out = tmp_path / "seen.npz"
    command = [sys.executable, "-m", "checks.worker", str(tmp_path / "student.py"), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    results = judge.judge(records.read(out), right_numbers)
    if said is None:
        statuses = {"pass"} if source == SOURCE else {"to do"}
        assert {result.status for result in results} <= statuses | {"FAIL"}
        assert source != SOURCE or {result.status for result in results} == {"pass"}
    else:
        assert all(said in result.message for result in results)
