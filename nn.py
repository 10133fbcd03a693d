"""Networks as lists of layers: forward, backward, update; training, evaluation, a summary.

Any objects with the interface of layers.py will do, a student's own as well.
"""

from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from support import metrics, tables
from support.parameters import Parameters
from support.run import Run

import numpy as np


def forward_pass(net, inputs):
    """The output of the last layer: inputs through every layer of net in turn."""
    out = inputs
    for layer in net:
        out = layer.forward(out)
    return out


def backward_pass(net, loss, x, y):
    """The gradient of the loss with respect to every parameter, after a forward_pass.

    x: the output of that forward_pass, the logits; y: what the loss compares it with.
    Returns a list of [[parameter, gradient], ..., name], those of the loss itself first.
    """
    grads = list(loss.backward_params()) if loss.has_params else []
    grad_out = loss.backward_inputs(x, y)
    for layer in reversed(net):
        if layer.has_params:
            grads.append(layer.backward_params(grad_out))
        if layer is not net[0]:  # nobody asks for the gradient of the images
            grad_out = layer.backward_inputs(grad_out)
    return grads


def sgd_update_params(grads, config):
    """Stochastic gradient descent, in place: parameter -= config['lr'] * gradient.

    Regularized weights are in grads twice, with the gradient of L2 and with that of the data;
    subtracting both subtracts their sum.
    """
    for *pairs, _name in grads:  # [[weights, grad], [bias, grad], name]: all but the name
        for parameter, grad in pairs:
            parameter -= config["lr"] * grad


def train(
    train_x, train_y, valid_x, valid_y, net, loss, config, run=None, update=sgd_update_params
):
    """Train net by stochastic gradient descent on shuffled batches, and return it.

    train_y, valid_y: a row an image, one-hot for cross-entropy.
    config: a mapping with max_epochs, batch_size, save_dir and lr_policy ({epoch: {'lr': value}},
    each valid from its epoch on); optional seed (default 0). The order of the images depends on the
    seed and the epoch alone.
    run: a support.run.Run that takes history and checkpoints, by default a new one in save_dir.
    update(grads, config): changes the parameters; config has the entry of lr_policy in it.
    In the history, training loss and accuracy are means over the images, each with the weights
    before its step; the losses include the regularizers.
    Raises: ValueError for options, images or labels that do not fit; support.errors.Diverged;
    support.errors.Interrupted after a signal.
    """
    _check_config(config, train_x, train_y, run)
    _check_images("validation", valid_x, valid_y)
    if run is None:
        with Run.start(config["save_dir"]) as run:
            train(train_x, train_y, valid_x, valid_y, net, loss, config, run, update)
            run.finish()
        return net

    def validate():
        return evaluate("validation", valid_x, valid_y, net, loss, config)

    params = Parameters(net, loss)  # by name, for checkpoints
    run.restore_arrays(params)
    update = params.noting(update)  # so that checkpoints hold whatever it changes
    for epoch in run.epochs(config["max_epochs"]):
        sgd_config = {**config, **_in_epoch(config["lr_policy"], epoch)}
        # shuffled anew each epoch
        for batch in run.batches(len(train_x), config["batch_size"], config.get("seed", 0)):
            x, y = train_x[batch.indices], train_y[batch.indices]
            logits = forward_pass(net, x)  # (B, K): images of the batch, classes
            num_correct = np.sum(logits.argmax(axis=1) == y.argmax(axis=1))
            run.count(loss.forward(logits, y), num_correct, sgd_config["lr"])
            grads = backward_pass(net, loss, logits, y)
            update(grads, sgd_config)
        run.end_epoch(validate)
    return net


def predict(net, x, batch_size):
    """The outputs of net for all of x, batch_size images at a time. Shape (N, K)."""
    starts = range(0, len(x), batch_size)
    return np.concatenate([forward_pass(net, x[i : i + batch_size]) for i in starts])


def evaluate(name, x, y, net, loss, config):
    """Print and return the mean loss and the accuracy (a fraction) of net on x, y.

    y: a row an image, as in train; config: a mapping with batch_size.
    Raises: ValueError for labels that do not fit, or no images.
    """
    _check_images(name, x, y)
    logits = predict(net, x, config["batch_size"])
    mean_loss = float(loss.forward(logits, y))
    confusion = metrics.confusion_matrix(y.argmax(axis=1), logits.argmax(axis=1), y.shape[1])
    accuracy = metrics.accuracy(confusion)
    print(f"{name}: loss {mean_loss:.4f}, accuracy {accuracy:.2%}")
    return mean_loss, accuracy


def parameters(net):
    """The weights and bias of all layers by position, layer and name, such as '0.conv1.weights'."""
    return Parameters(net).arrays()


class SummaryRow(NamedTuple):
    """One layer for one image; receptive_field None: all of the image. kept_bytes: for a batch."""

    name: str
    output: tuple
    num_params: int
    receptive_field: int | None
    multiply_adds: int
    kept_bytes: int | None


def size_rows(net):
    """A SummaryRow for each layer from its shapes alone, without a forward pass.

    num_params counts weights and bias; kept_bytes is None, for nothing has been kept.
    """
    rows = []
    field, jump = 1, 1  # rows of pixels that an output sees, and from an output to the next
    for layer in net:
        output = tuple(layer.shape[1:])
        if layer.has_params and len(output) < 3:
            field = None
        elif field is not None:
            window = getattr(layer, "kernel_size", getattr(layer, "pool_size", 1))
            field += (window - 1) * jump
            jump *= getattr(layer, "stride", 1)
        num_weights = np.size(getattr(layer, "weights", ())) if layer.has_params else 0
        num_biases = np.size(getattr(layer, "bias", ())) if layer.has_params else 0
        multiply_adds = num_weights * int(np.prod(output[1:]))  # a filter works at each place
        rows.append(
            SummaryRow(layer.name, output, num_weights + num_biases, field, multiply_adds, None)
        )
    return rows


def summary_rows(net, batch_size):
    """A SummaryRow for each layer, after a forward pass of batch_size blank images.

    num_params counts whatever backward_params returns; kept_bytes is what the layer really holds
    then for the backward pass: its arrays other than the parameters, each counted once in the
    network.
    """
    out = np.zeros((batch_size, *net[0].input_shape[1:]), getattr(net[0], "dtype", np.float64))
    held, params = [], []  # arrays, a list for each layer
    for layer in net:
        out = layer.forward(out)
        held.append(list(_arrays(getattr(layer, "__dict__", {}).values())))
        pairs = layer.backward_params(np.zeros_like(out))[:-1] if layer.has_params else []
        params.append([parameter for parameter, _ in pairs])
    assert out.shape[0] == batch_size
    rows, counted = [], {id(_memory(array)) for arrays in params for array in arrays}
    for row, arrays, of_layer in zip(size_rows(net), held, params, strict=True):
        kept = 0
        for array in arrays:
            if id(_memory(array)) not in counted:
                counted.add(id(_memory(array)))
                kept += array.nbytes
        num_params = sum(parameter.size for parameter in of_layer)
        rows.append(row._replace(num_params=num_params, kept_bytes=kept))
    return rows


def summary(net, batch_size):
    """summary_rows with their totals, as a table."""
    rows = summary_rows(net, batch_size)
    columns = [("layer", "<"), (f"{'output':>12}", ""), ("parameters", ",")]
    columns += [("receptive field", ""), ("multiply-adds", ","), (f"{'kept bytes':>12}", ",")]
    cells = []
    for row in rows:
        field = row.receptive_field
        field = "all" if field is None else f"{field}x{field}"
        output = "x".join(map(str, row.output))
        cells.append([row.name, output, row.num_params, field, row.multiply_adds, row.kept_bytes])
    totals = [sum(row[i] for row in cells) for i in (2, 4, 5)]
    cells.append(["total", "", totals[0], "", *totals[1:]])
    outputs = sum(int(np.prod(row.output)) for row in rows) * batch_size
    itemsize = getattr(net[0], "dtype", np.dtype(np.float64)).itemsize
    return (
        f"{tables.text_table(columns, cells)}\n\n"
        "output and multiply-adds: one image, forward; kept bytes: what the layers hold for the\n"
        f"backward pass of a batch of {batch_size}. Keeping every output instead would take "
        f"{outputs * itemsize:,} bytes."
    )


def _memory(array):
    """The array that owns the memory of this one."""
    return array if array.base is None else array.base


def _arrays(values):
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple | list):
            yield from _arrays(value)


def _in_epoch(lr_policy, epoch):
    """The entry of lr_policy that holds in this epoch: that of the latest epoch up to it."""
    starts = sorted(lr_policy)
    return lr_policy[starts[bisect_right(starts, epoch) - 1]]


def _check_config(config, train_x, train_y, run):
    for key in ("batch_size", "max_epochs", "lr_policy", *(["save_dir"] if run is None else [])):
        if key not in config:
            raise ValueError(f"expected config to have {key}, got {', '.join(map(str, config))}")
    for key in ("batch_size", "max_epochs"):
        if config[key] < 1:
            raise ValueError(f"expected {key} of at least 1, got {config[key]}")
    if min(config["lr_policy"], default=2) > 1:
        raise ValueError(f"expected lr_policy to start at epoch 1, got {config['lr_policy']}")
    if run is None and Path.cwd().is_relative_to(Path(config["save_dir"]).resolve()):
        raise ValueError(
            "expected save_dir to be a folder of its own, which the next run may rename, got "
            f"'{config['save_dir']}', where this program stands"
        )
    _check_images("training", train_x, train_y)


def _check_images(name, x, y):
    if np.ndim(y) != 2:
        raise ValueError(
            f"{name}: expected labels one-hot, a row an image, got shape {np.shape(y)}; "
            "data.one_hot makes them from integers"
        )
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"{name}: expected as many labels as images, one at least, got {len(y)} and {len(x)}"
        )
