import csv
from pathlib import Path

from support.errors import Diverged, RunError
from support.locks import unlock
from support.run import HISTORY_COLUMNS, Run

import numpy as np
import pytest

import fast_layers as layers
import nn
import train
import train_l2reg

FILES = Path("/proc/self/fd")  # those that this process has open


def small_net(rng, dtype=np.float64):
    x = np.zeros((4, 1, 8, 8), dtype)
    net = [layers.Convolution(x, 3, 3, "conv1", rng=rng)]
    net += [layers.MaxPooling(net[-1], "pool1")]
    net += [layers.ReLU(net[-1], "relu1")]
    net += [layers.Flatten(net[-1], "flatten")]
    net += [layers.FC(net[-1], 2, "logits", rng=rng)]
    return net


@pytest.fixture
def toy(rng):
    """Images with a bright upper or lower half, and their classes, one-hot."""
    labels = rng.integers(2, size=60)
    x = rng.standard_normal((60, 1, 8, 8)) * 0.3
    for image, label in zip(x, labels, strict=True):
        image[0, 4 * label : 4 * label + 4] += 1
    return x, np.eye(2)[labels]


def config_for(tmp_path, **changes):
    return {
        "max_epochs": 3,
        "batch_size": 25,
        "lr_policy": {1: {"lr": 0.1}, 3: {"lr": 0.01}},
        "save_dir": str(tmp_path / "run"),
        **changes,
    }


def test_sgd_by_hand():
    weights, bias = np.array([1.0, 2]), np.array([3.0])
    nn.sgd_update_params(
        [[[weights, np.array([10.0, 20])], [bias, np.array([-1.0])], "fc"]], {"lr": 0.1}
    )
    assert np.allclose(weights, [0, 0])
    assert np.allclose(bias, [3.1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sgd_with_the_kernel_equals_sgd_without(rng, dtype):
    params = [rng.standard_normal(shape).astype(dtype) for shape in [(300, 70), (7,), (4, 6)]]
    params[2] = params[2].T  # not contiguous: left to NumPy
    grads = [rng.standard_normal(param.shape).astype(dtype) for param in params]
    expected = [param - 0.1 * grad for param, grad in zip(params, grads, strict=True)]
    pairs = [[param, grad] for param, grad in zip(params, grads, strict=True)]
    layers.sgd_update_params([[*pairs, "fc"]], {"lr": 0.1})
    for param, wanted in zip(params, expected, strict=True):
        assert param.dtype == dtype
        np.testing.assert_allclose(param, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("update", [nn.sgd_update_params, layers.sgd_update_params])
def test_sgd_keeps_float32(update):
    weights = np.ones(2, np.float32)
    update([[[weights, np.ones(2, np.float32)], "fc"]], {"lr": np.float64(0.5)})
    assert weights.dtype == np.float32
    assert np.array_equal(weights, [0.5, 0.5])


@pytest.mark.parametrize("config_type", ["minimal", "with an uneven batch"])
def test_train_learns_and_writes_its_history(toy, tmp_path, rng, config_type, capsys):
    x, y = toy
    batch_size = 20 if config_type == "minimal" else 7
    config = config_for(tmp_path, batch_size=batch_size, max_epochs=4)
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    assert nn.train(x[:40], y[:40], x[40:], y[40:], net, loss, config) is net
    mean_loss, accuracy = nn.evaluate("Test", x[40:], y[40:], net, loss, config)
    assert accuracy > 0.8  # of two classes
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == HISTORY_COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["lr"]) for row in rows] == [0.1, 0.1, 0.01, 0.01]
    assert float(rows[-1]["valid_loss"]) == mean_loss
    assert float(rows[0]["train_loss"]) > float(rows[-1]["train_loss"])
    assert "Test: loss" in capsys.readouterr().out


def test_evaluate_weighs_a_smaller_last_batch_by_its_size(toy, rng):
    x, y = toy
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    whole = nn.evaluate("all", x, y, net, loss, {"batch_size": 60})
    parts = nn.evaluate("all", x, y, net, loss, {"batch_size": 7})
    assert parts == pytest.approx(whole)


def test_training_order_depends_on_the_seed_alone(toy, tmp_path):
    x, y = toy
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        config = config_for(tmp_path, seed=seed, save_dir=tmp_path / str(number), max_epochs=1)
        net = small_net(np.random.default_rng(0))
        nn.train(x, y, x, y, net, layers.SoftmaxCrossEntropyWithLogits(), config)
        weights.append(net[0].weights)
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"max_epochs": 0}, "max_epochs of at least 1, got 0"),
        ({"lr_policy": {2: {"lr": 0.1}}}, "lr_policy to start at epoch 1"),
    ],
)
def test_bad_config(toy, tmp_path, rng, changes, message):
    x, y = toy
    loss = layers.SoftmaxCrossEntropyWithLogits()
    with pytest.raises(ValueError, match=message):
        nn.train(x, y, x, y, small_net(rng), loss, config_for(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(toy, tmp_path, rng):
    x, y = toy
    x = x.copy()
    x[30] = np.nan
    loss = layers.SoftmaxCrossEntropyWithLogits()
    with pytest.raises(Diverged, match="loss is nan in epoch 1, step"):
        nn.train(x, y, x, y, small_net(rng), loss, config_for(tmp_path))
    assert '"diverged"' in (tmp_path / "run" / "results.json").read_text()


@pytest.mark.skipif(not FILES.is_dir(), reason="counts open files under Linux")
def test_many_epochs_leave_arrays_and_open_files_as_they_were(toy, tmp_path, rng, capsys):
    """Of the memory only arrays: Python's own tables grow by leaps."""
    import tracemalloc

    x, y = toy
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    config = config_for(tmp_path, max_epochs=100, lr_policy={1: {"lr": 1e-4}})
    of_arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    seen = []

    def look(row):
        if row["epoch"] in (20, 100):
            run.writer.do(int)  # nothing; for it the writer lets go of the job before
            run.writer.wait()
            traces = tracemalloc.take_snapshot().filter_traces([of_arrays]).traces
            seen.append((len(list(FILES.iterdir())), sum(trace.size for trace in traces)))
        return 0

    with Run.start(tmp_path / "run") as run:
        run.add_column("looked", look)
        tracemalloc.start()
        nn.train(x, y, x, y, net, loss, config, run)
        tracemalloc.stop()
    (files, memory), (more_files, more_memory) = seen
    assert memory > 0
    assert more_files <= files
    assert more_memory <= memory


# --- step by step against PyTorch ---------------------------------------------------------------


def torch_twin(net, torch):
    """The network of train.py in PyTorch, with the same weights."""
    tnn = torch.nn
    conv1, conv2, fc3, logits = (layer for layer in net if layer.has_params)
    twin = tnn.Sequential(
        tnn.Conv2d(1, 16, 5, padding=2), tnn.MaxPool2d(2), tnn.ReLU(),
        tnn.Conv2d(16, 32, 5, padding=2), tnn.MaxPool2d(2), tnn.ReLU(), tnn.Flatten(),
        tnn.Linear(1568, 512), tnn.ReLU(), tnn.Linear(512, 10),
    )  # fmt: skip
    twin = twin.to(torch.float64 if conv1.weights.dtype == np.float64 else torch.float32)
    pairs = zip((conv1, conv2, fc3, logits), (twin[0], twin[3], twin[7], twin[9]), strict=True)
    for ours, theirs in pairs:
        theirs.weight.data = torch.tensor(ours.weights).reshape(theirs.weight.shape).clone()
        theirs.bias.data = torch.tensor(ours.bias).clone()
    return twin


@pytest.mark.parametrize("weight_decay", [0, 1e-2])
@pytest.mark.parametrize(
    ("dtype", "lr", "tolerance"), [(np.float64, 0.1, 1e-9), (np.float32, 0.001, 1e-4)]
)
def test_a_hundred_steps_equal_torch(rng, digits, weight_decay, dtype, lr, tolerance):
    """In float32 at the rate 0.1 rounding decides near-ties of max pooling, and PyTorch in float32
    drifts as far from PyTorch in float64 as from us; hence the smaller rate there."""
    torch = pytest.importorskip("torch")
    net = train.build_net(layers, 50, rng, dtype)
    twin = torch_twin(net, torch)
    if weight_decay:
        loss = train_l2reg.regularized_loss(layers, net, weight_decay)
    else:
        loss = layers.SoftmaxCrossEntropyWithLogits()
    optimizer = torch.optim.SGD(twin.parameters(), lr=lr)
    losses, expected = [], []
    for _ in range(100):
        batch = rng.integers(len(digits.train_x), size=50)
        x, y = digits.train_x[batch].astype(dtype), np.eye(10, dtype=dtype)[digits.train_y[batch]]
        logits = nn.forward_pass(net, x)
        losses.append(loss.forward(logits, y))
        nn.sgd_update_params(nn.backward_pass(net, loss, logits, y), {"lr": lr})

        objective = torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y))
        for layer in (twin[0], twin[3], twin[7]):
            objective = objective + weight_decay / 2 * (layer.weight**2).sum()
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        expected.append(objective.item())
    np.testing.assert_allclose(losses, expected, rtol=0, atol=tolerance)
    assert losses[-1] < losses[0]
    ours = [array.ravel() for array in nn.parameters(net).values()]
    theirs = [parameter.detach().ravel() for parameter in twin.parameters()]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


# --- summary ------------------------------------------------------------------------------------


def test_summary_of_the_labs_network(rng):
    rows = {row.name: row for row in nn.summary_rows(train.build_net(layers, 50, rng), 50)}
    assert sum(row.num_params for row in rows.values()) == 821_706
    assert rows["conv2"].receptive_field == 14
    assert rows["conv2"].output == (32, 14, 14)
    assert rows["conv2"].multiply_adds == 14 * 14 * 32 * 16 * 25
    assert rows["fc3"].num_params == 1568 * 512 + 512
    assert rows["flatten3"].receptive_field == 16
    assert [rows[name].receptive_field for name in ("fc3", "relu3", "logits")] == [None] * 3


def test_summary_counts_what_the_layers_really_keep(rng):
    """Against the arrays' own sizes: inputs of conv and fc in float32, a byte for the others."""
    batch = 20
    rows = {
        row.name: row.kept_bytes for row in nn.summary_rows(train.build_net(layers, 5, rng), batch)
    }
    assert rows == {
        "conv1": batch * 28 * 28 * 4,
        "pool1": batch * 16 * 14 * 14,
        "relu1": batch * 16 * 14 * 14,
        "conv2": batch * 16 * 14 * 14 * 4,
        "pool2": batch * 32 * 7 * 7,
        "relu2": batch * 32 * 7 * 7,
        "flatten3": 0,
        "fc3": batch * 1568 * 4,
        "relu3": batch * 512,
        "logits": batch * 512 * 4,
    }
    text = nn.summary(train.build_net(layers, 5, rng), batch)
    assert f"{sum(rows.values()):,}" in text
    assert "821,706" in text


def test_summary_of_strides_and_paddings(rng):
    x = np.zeros((1, 3, 32, 32), np.float32)
    net = [layers.Convolution(x, 4, 3, "a", "VALID", stride=2, rng=rng)]
    net += [layers.MaxPooling(net[-1], "b", 3, 2)]
    net += [layers.Convolution(net[-1], 4, 3, "c", rng=rng)]
    assert [row.receptive_field for row in nn.summary_rows(net, 1)] == [3, 7, 15]
    assert [row.output for row in nn.summary_rows(net, 1)] == [(4, 15, 15), (4, 7, 7), (4, 7, 7)]


# --- layers and arguments of others -------------------------------------------------------------


class Minimal:
    """A layer with the exercise's interface and nothing else."""

    has_params = False

    def __init__(self, name, shape):
        self.name, self.shape = name, shape

    def forward(self, x):
        self.seen = x.shape
        return x.reshape(len(x), -1)

    def backward_inputs(self, grad_out):
        return grad_out.reshape(self.seen)


class MinimalFC(Minimal):
    has_params = True

    def __init__(self, num_inputs, num_outputs, name, rng):
        super().__init__(name, (4, num_outputs))
        self.weights = rng.standard_normal((num_outputs, num_inputs)) * 0.1
        self.bias = np.zeros(num_outputs)

    def forward(self, x):
        self.x = x
        return x @ self.weights.T + self.bias

    def backward_inputs(self, grad_out):
        return grad_out @ self.weights

    def backward_params(self, grad_out):
        return [[self.weights, grad_out.T @ self.x], [self.bias, grad_out.sum(axis=0)], self.name]


class Scale(Minimal):
    """out = x * gamma + beta, whose arrays have other names, lie deeper and are replaced."""

    has_params = True

    def __init__(self, num_inputs, name):
        super().__init__(name, (4, num_inputs))
        self.gamma = np.ones(num_inputs)
        self.more = {"shift": [np.zeros(num_inputs)]}

    def forward(self, x):
        self.x, self.gamma = x, self.gamma.copy()
        return x * self.gamma + self.more["shift"][0]

    def backward_inputs(self, grad_out):
        return grad_out * self.gamma

    def backward_params(self, grad_out):
        beta = self.more["shift"][0].reshape(1, -1)  # the same memory
        grads = [[self.gamma, (grad_out * self.x).sum(axis=0)]]
        return [*grads, [beta, grad_out.sum(axis=0, keepdims=True)], self.name]


def minimal_net():
    rng = np.random.default_rng(5)
    net = [Minimal("flatten", (4, 64)), MinimalFC(64, 6, "fc", rng), Scale(6, "scale")]
    return [*net, MinimalFC(6, 2, "logits", rng)]


def test_train_and_evaluate_ask_no_more_of_a_layer_than_the_exercise(toy, tmp_path):
    x, y = toy
    net, loss = minimal_net(), layers.SoftmaxCrossEntropyWithLogits()
    before = nn.evaluate("before", x, y, net, loss, {"batch_size": 7})
    nn.train(x, y, x, y, net, loss, config_for(tmp_path, batch_size=7))
    after = nn.evaluate("after", x, y, net, loss, {"batch_size": 7})
    assert after[0] < before[0]
    assert [grads[-1] for grads in nn.backward_pass(net, loss, nn.forward_pass(net, x), y)] == [
        "logits",
        "scale",
        "fc",
    ]


@pytest.mark.parametrize("stop", [("step", 1), ("step", 5), ("epoch", 2)])
def test_every_array_that_backward_params_names_is_resumed(toy, tmp_path, stop):
    """Stopped in the first epoch, in the third, and once more before a step of the resumed run."""
    x, y = toy
    loss = layers.SoftmaxCrossEntropyWithLogits()
    whole, net = minimal_net(), minimal_net()
    nn.train(x, y, x, y, whole, loss, config_for(tmp_path, save_dir=tmp_path / "whole"))
    folder, options = tmp_path / "run", {"checkpoint_minutes": 0}

    def train(net, resume, kind="", count=0):
        """Train until count steps or epochs are done, counting from 1; to the end if 0."""

        def one_less(done):
            nonlocal count
            count -= done == kind
            if count == 0 and done == kind:
                raise KeyboardInterrupt
            return 0

        def update(grads, config):
            one_less("step")
            nn.sgd_update_params(grads, config)

        with Run.start(folder, options, resume) as run:
            run.add_column("stops", lambda row: one_less("epoch"))
            nn.train(x, y, x, y, net, loss, config_for(tmp_path), run, update)

    for resume, where in ((False, stop), (True, ("epoch", 1))):
        with pytest.raises(KeyboardInterrupt):
            train(minimal_net(), resume, *where)
    train(net, True)
    for ours, theirs in zip(net[1:], whole[1:], strict=True):
        for array, expected in zip(
            *(vars(layer).values() for layer in (ours, theirs)), strict=True
        ):
            if isinstance(array, np.ndarray) and array.dtype == np.float64:
                assert np.array_equal(array, expected)
    assert np.array_equal(net[2].more["shift"], whole[2].more["shift"])
    assert np.any(net[2].more["shift"])
    with np.load(folder / "checkpoint.npz") as saved:
        names = ["1.fc.weights", "1.fc.bias", "3.logits.weights", "3.logits.bias"]
        names += ["2.scale.gamma", "2.scale.more.shift.0"]
        assert {f"param:{name}" for name in names} == {*saved.files} - {"notes"}


def test_a_checkpoint_of_another_network_is_refused_whatever_its_arrays_are_called(toy, tmp_path):
    x, y = toy
    loss = layers.SoftmaxCrossEntropyWithLogits()
    folder = tmp_path / "run"
    nn.train(x, y, x, y, minimal_net(), loss, config_for(tmp_path, max_epochs=1))
    net = minimal_net()
    del net[2].gamma
    run = Run.start(folder, {}, resume=True)
    with pytest.raises(RunError, match=r"another network: expected .*, got .*2\.scale\.gamma"):
        nn.train(x, y, x, y, net, loss, config_for(tmp_path), run)


def test_a_parameter_that_no_attribute_holds_is_warned_of_once(toy, tmp_path, capsys):
    class Hidden(Scale):
        def backward_params(self, grad_out):
            return [[np.ones(3), np.zeros(3)], self.name]

    x, y = toy
    net = minimal_net()
    net[2] = Hidden(6, "hidden")
    loss = layers.SoftmaxCrossEntropyWithLogits()
    nn.train(x, y, x, y, net, loss, config_for(tmp_path))
    assert capsys.readouterr().err.count("warning: hidden has a parameter of shape (3,) that") == 1


def test_the_grads_of_a_loss_are_not_added_to(toy):
    x, y = toy

    class Loss(layers.SoftmaxCrossEntropyWithLogits):
        has_params, grads = True, []

        def backward_params(self):
            return self.grads

    loss, net = Loss(), minimal_net()
    nn.backward_pass(net, loss, nn.forward_pass(net, x), y)
    assert loss.grads == []


def test_the_summary_counts_parameters_of_any_name(rng):
    rows = nn.summary_rows([layers.FC(np.zeros((4, 6)), 6, "fc", rng=rng), Scale(6, "scale")], 4)
    assert [row.num_params for row in rows] == [42, 12]
    assert rows[1].multiply_adds == 0


@pytest.mark.parametrize("which", ["training", "validation"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x, y.argmax(axis=1)), r"one-hot, a row an image, got shape \(60,\)"),
        (lambda x, y: (x[:0], y[:0]), "as many labels as images, one at least, got 0 and 0"),
        (lambda x, y: (x, y[:-1]), "as many labels as images, one at least, got 59 and 60"),
    ],
)
def test_images_and_labels_that_do_not_fit(toy, tmp_path, rng, which, spoil, message):
    sets = {"training": toy, "validation": toy, which: spoil(*toy)}
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    with pytest.raises(ValueError, match=f"{which}: expected .*{message}"):
        nn.train(*sets["training"], *sets["validation"], net, loss, config_for(tmp_path))
    with pytest.raises(ValueError, match=f"Test: expected .*{message}"):
        nn.evaluate("Test", *sets[which], net, loss, {"batch_size": 7})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", [".", "", "..", "../here"])
def test_the_current_folder_is_no_folder_for_a_run(toy, tmp_path, rng, folder, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    with pytest.raises(ValueError, match="save_dir to be a folder of its own"):
        nn.train(*toy, *toy, net, loss, config_for(tmp_path, save_dir=folder))
    assert not list((tmp_path / "here").iterdir())


def test_a_missing_option_is_named(toy, tmp_path, rng):
    config = config_for(tmp_path)
    del config["lr_policy"]
    net, loss = small_net(rng), layers.SoftmaxCrossEntropyWithLogits()
    with pytest.raises(ValueError, match="config to have lr_policy, got max_epochs, batch_size"):
        nn.train(*toy, *toy, net, loss, config)
