"""Answers about the network: right, wrong or missing, and how to think again.

The right ones are counted from the shapes of a network's layers (nn.size_rows), so that nothing has
to run forward. No sentence gives a value away.
"""

from math import prod
from typing import NamedTuple

MISSING = "?"  # what stands in answers.toml for an answer to come
WHOLE = "write a whole number, without quotes or a decimal point"
ITEMSIZES = {"float32": 4, "float64": 8}


class Verdict(NamedTuple):
    """status: right, wrong or missing; message: what was counted, or how to think again."""

    section: str
    name: str
    status: str
    message: str = ""


def judge(answers, net, rows, batch_size):
    """A Verdict for each question: {section: {name: answer}}, as answers.toml has them.

    net, rows: the network and its nn.size_rows.
    """
    sizes = {row.name: row.output for row in rows}
    parameters = {row.name: row.num_params for row in rows}
    parameters = {n: parameters[n] for n in ("conv1", "pool1", "conv2", "fc3", "logits")}
    parameters["total"] = sum(row.num_params for row in rows)
    layers = {layer.name: layer for layer in net}
    fields = {row.name: row.receptive_field for row in rows}
    verdicts = []

    def ask(section, name, check, *args):
        of_section = answers.get(section)
        answer = of_section.get(name, MISSING) if isinstance(of_section, dict) else MISSING
        if answer in (MISSING, "", []):
            verdicts.append(Verdict(section, name, "missing"))
            return
        is_right, message = check(answer, *args)
        verdicts.append(Verdict(section, name, "right" if is_right else "wrong", message))

    for name, size in sizes.items():
        ask("sizes", name, check_size, size, layers[name])
    for name, number in parameters.items():
        ask("parameters", name, check_parameters, number, layers.get(name))
    for name in ("conv1", "pool1", "conv2"):
        ask("receptive_field", name, check_field, fields[name], rows)
    ask("memory", "bytes", check_memory, net, rows, batch_size)
    return verdicts


def check_size(answer, size, layer):
    """Whether a list of numbers is the size of an output, and what to think of if it is not."""
    answer = tuple(answer) if isinstance(answer, list) else (answer,)
    if not all(is_number(number) for number in answer):
        return False, "write whole numbers between [ and ], with commas"
    if answer == size:
        return True, ""
    if sorted(answer) == sorted(size):
        return False, "these numbers in another order: channels, rows, columns"
    if answer[1:] == size:
        return False, "of one image: leave the batch out"
    if len(answer) != len(size):
        return False, f"{len(size)} number(s): is what comes out an image or a vector?"
    before = tuple(layer.input_shape[1:])
    if hasattr(layer, "kernel_size") and answer[0] != size[0]:
        return False, "every filter makes one channel"
    if hasattr(layer, "kernel_size"):
        return False, "how many zeros does padding='SAME' put around the image, and why that many?"
    if hasattr(layer, "pool_size") and answer[0] != size[0]:
        return False, "pooling takes every channel by itself"
    if hasattr(layer, "pool_size"):
        return False, "how far does the window move from one output to the next?"
    if hasattr(layer, "num_inputs"):
        return False, "what does the second argument of FC say?"
    if prod(before) == prod(size) and len(before) != len(size):
        return False, "every number of the image finds a place in the vector"
    return False, "this layer works on each number by itself"


def check_parameters(answer, number, layer):
    """Whether a number of parameters is right; layer None: that of the whole network."""
    if not is_number(answer):
        return False, WHOLE
    if answer == number:
        return True, ""
    if layer is None:
        return False, "the sum over all layers, whether asked for above or not"
    if not layer.has_params:
        return False, "what of this layer does training change?"
    weights, biases = layer.weights.size, layer.bias.size
    if answer == weights:
        return False, "these are the weights; is there anything else to learn?"
    if hasattr(layer, "kernel_size"):
        k, channels = layer.kernel_size, layer.input_shape[1]
        one_channel = biases * k * k
        if answer in (one_channel, one_channel + biases) and channels > 1:
            return False, "a filter sees all channels of its input, not one"
        if answer in (weights // biases, weights // biases + 1) and biases > 1:
            return False, "this is one filter; how many are there?"
        if answer % prod(layer.shape[2:]) == 0 and answer > number:
            return False, "the same filter is used at every place: the image's size does not count"
        return False, "how many numbers has one filter, how many filters are there, and the biases?"
    return False, "how many weights does one output have, how many outputs are there, the biases?"


def check_field(answer, field, rows):
    """Whether a receptive field, one side or [rows, columns], is right."""
    sides = answer if isinstance(answer, list) else [answer]
    if not all(is_number(side) for side in sides):
        return False, f"{WHOLE}: the pixels along one side"
    if len(sides) <= 2 and set(sides) == {field}:
        return True, ""
    if sides == [field**2]:
        return False, "along one side, not the area"
    windows = {row.receptive_field for row in rows if row.receptive_field is not None}
    if sides[0] in windows:
        return False, "that is the receptive field of another layer"
    return False, (
        "go back from one value: which outputs of the layer before does it see, how far apart do "
        "these lie in the image, and what does the outermost of them see?"
    )


def conventions(net, rows):
    """{what is counted: how many numbers a single image leaves} for each way to count activations.

    The lab does not say which are "the activations needed": all of these are sensible.
    """
    images = prod(net[0].input_shape[1:])
    outputs = [prod(row.output) for row in rows]
    flat = sum(
        size for size, layer in zip(outputs, net, strict=True) if is_view(layer)
    )  # Flatten's output is its input, seen as a vector
    columns = sum(num_columns(layer) for layer in net if hasattr(layer, "kernel_size"))
    counts = {
        "the output of every layer": sum(outputs),
        "the images and the output of every layer": images + sum(outputs),
        "the input of every layer": images + sum(outputs[:-1]),
    }
    counts |= {f"{what}, Flatten's not twice": n - flat for what, n in counts.items()}
    with_columns = {f"{what}, and the columns of im2col": n + columns for what, n in counts.items()}
    return counts | with_columns


def num_columns(layer):
    """How many numbers im2col makes of an image for a convolution."""
    return prod(layer.shape[2:]) * layer.input_shape[1] * layer.kernel_size**2


def plain_bytes(net):
    """Bytes an image, in float32, of what layers.py keeps, as train.py --summary measures it.

    im2col's columns; the inputs of FC and ReLU; 8 bytes for the place of each maximum.
    """
    kept = 0
    for layer in net:
        if hasattr(layer, "kernel_size"):
            kept += ITEMSIZES["float32"] * num_columns(layer)
        elif hasattr(layer, "pool_size"):
            kept += 8 * prod(layer.shape[1:])
        elif not is_view(layer):
            kept += ITEMSIZES["float32"] * prod(layer.input_shape[1:])
    return kept


def least_bytes(net):
    """Bytes an image, in float32, of what the formulas of backpropagation contain and no more.

    The inputs of layers with parameters; a byte for the place of each maximum and the sign of each
    input of a ReLU.
    """
    kept = 0
    for layer in net:
        if layer.has_params:
            kept += ITEMSIZES["float32"] * prod(layer.input_shape[1:])
        elif not is_view(layer):
            kept += prod(layer.shape[1:])
    return kept


def is_view(layer):
    """Whether the layer only gives its input another shape, as Flatten does."""
    return len(layer.shape) != len(layer.input_shape)


def check_memory(answer, net, rows, batch_size):
    """Whether a number of bytes is that of one of the conventions; which one, or what is amiss."""
    if not is_number(answer):
        return False, f"{WHOLE}: of bytes"
    counts = conventions(net, rows)
    accepted = {
        f"{what}, in {dtype}": batch_size * n * itemsize
        for dtype, itemsize in ITEMSIZES.items()
        for what, n in counts.items()
    }
    accepted["only what backward needs, with a byte a maximum and a ReLU's sign"] = (
        batch_size * least_bytes(net)
    )
    accepted["what layers.py keeps, with im2col's columns and 8 bytes for a maximum's place"] = (
        batch_size * plain_bytes(net)
    )
    for what, number in accepted.items():
        if answer == number:
            return True, f"counted: {what}"
    in_parameters = sum(row.num_params for row in rows) * ITEMSIZES["float32"]
    for number in accepted.values():
        if answer * batch_size == number:
            return False, "that is one image: the batch has more"
        if answer == number + in_parameters:
            return False, "parameters are no activations: they do not grow with the batch"
        units = 10**3, 2**10, 10**6, 2**20
        if any(abs(answer * unit - number) <= 0.02 * number for unit in units):
            return False, "looks like kilobytes or megabytes: the question is for bytes"
    if answer in {batch_size * n for n in counts.values()}:
        return False, "these are numbers, not bytes: how many bytes does float32 take for one?"
    return False, (
        "add up what the layers put out (or take in) for one image, all of them; then times the "
        "images of a batch, times the bytes of a number"
    )


def is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)
