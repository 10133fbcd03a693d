"""The network that a run left: its layers with their parameters, checked."""

import math
import zipfile
from dataclasses import dataclass

from support import files
from support.read_runs import MAX_ARRAY_BYTES, as_number, is_count

import numpy as np

MODEL, INITIAL = "model.npz", "initial.npz"  # files with parameters, after and before training
# what a run that has come to its end may have left instead, and why
INSTEAD = {
    MODEL: ("model.pt", "it is in model.pt alone, as with larger networks and earlier versions"),
    INITIAL: (MODEL, "an earlier version made this run, and kept no network of before training"),
}
MAX_PARAMETERS = 4_000_000  # 7 MB in the page
MAX_PRODUCTS = 300_000_000  # for an image; half a second in the page
MAX_VALUES = 1_000_000  # of an image, or that a layer makes
MAX_LAYERS = 60
SIZES = {
    "conv": ("F", "k", "pad", "stride"),
    "pool": ("size", "stride"),
    "relu": (),
    "flatten": (),
    "fc": ("F",),
}
# of runs that left no list of their layers: the lab's network for images of 28x28
LAB_MNIST = [
    {"name": "conv1", "kind": "conv", "F": 16, "k": 5, "pad": 2, "stride": 1},
    {"name": "pool1", "kind": "pool", "size": 2, "stride": 2},
    {"name": "relu1", "kind": "relu"},
    {"name": "conv2", "kind": "conv", "F": 32, "k": 5, "pad": 2, "stride": 1},
    {"name": "pool2", "kind": "pool", "size": 2, "stride": 2},
    {"name": "relu2", "kind": "relu"},
    {"name": "flatten3", "kind": "flatten"},
    {"name": "fc3", "kind": "fc", "F": 512},
    {"name": "relu3", "kind": "relu"},
    {"name": "logits", "kind": "fc", "F": 10},
]


class UnusableError(ValueError):
    """Why there is no network to show: a sentence without its full stop."""


@dataclass
class Network:
    """layers: dicts with name, kind, sizes, and shape, the output's; conv and fc have weights and
    bias, rounded to bfloat16. input: [C, H, W]. mean, deviation: one number a channel.
    """

    input: list
    layers: list
    classes: list
    mean: list
    deviation: list

    @property
    def parameters(self):
        """All weights and biases in the order of the layers, one after the other."""
        with_any = [layer for layer in self.layers if "weights" in layer]
        parts = [layer[key].ravel() for layer in with_any for key in ("weights", "bias")]
        return np.concatenate([np.empty(0, np.float32), *parts])

    @property
    def num_products(self):
        """Of a pixel or value and a weight, for one image."""
        with_any = [layer for layer in self.layers if "weights" in layer]
        return sum(layer["weights"].size * math.prod(layer["shape"][1:]) for layer in with_any)


def read_network(record, name):
    """The network of a read_runs.Record, its parameters from an .npz file of that name.

    Raises: UnusableError.
    """
    num_problems = len(record.problems)
    arrays = record.read(name, read_bounded, {}, MAX_ARRAY_BYTES)
    described = record.json("network.json") or _assumed(record, arrays)
    if problems := record.problems[num_problems:]:
        del record.problems[num_problems:]
        raise UnusableError("; ".join(problems))
    if not arrays:
        other, reason = INSTEAD[name]
        is_there = (record.folder / other).exists()
        raise UnusableError(reason if is_there else "it comes at the end of a run")
    layers, shape = described.get("layers"), described.get("input")
    network = Network(shape, [], *(described.get(key) for key in ("classes", "mean", "deviation")))
    is_shape = _are(shape, is_count, 3) and math.prod(shape) <= MAX_VALUES
    if not is_shape or not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise UnusableError("what it says of its layers is damaged")
    for place, layer in enumerate(layers):
        network.layers.append(_checked(layer, place, shape, arrays))
        shape = network.layers[-1]["shape"]
    _check_ends(network, shape)
    return network


def read_bounded(path):
    """The arrays of an .npz file, if it is not too large unpacked. Raises: OSError, ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except OSError:
        raise
    except Exception as error:  # zip files can be wrong in many ways
        raise ValueError(files.in_one_line(error)) from error
    if size > MAX_ARRAY_BYTES:
        raise ValueError(f"it has {size:,} bytes when unpacked")
    return files.read_arrays(path)


def _assumed(record, arrays):
    """What an earlier version's run of train.py or train_l2reg.py would say of its network."""
    if not {"mean", "0.conv1.weights", "7.fc3.weights"} <= arrays.keys():
        return {}
    classes = [row["true"] for row in record.rows("confusion_matrix.csv", ("true",))]
    described = {"input": [1, 28, 28], "layers": LAB_MNIST, "classes": classes}
    return described | {"mean": [float(np.ravel(arrays["mean"])[0])], "deviation": [1.0]}


def _are(values, is_right, length=None):
    return (
        isinstance(values, list)
        and all(map(is_right, values))
        and (length is None or len(values) == length)
    )


def _checked(layer, place, shape, arrays):
    """A layer with the shape of its output and its parameters. Raises: UnusableError."""
    kind, name = (layer.get(key) if isinstance(layer, dict) else None for key in ("kind", "name"))
    if not isinstance(kind, str) or kind not in SIZES:
        raise UnusableError(
            f"it has a layer of the kind {str(kind)[:40]}, and the page knows convolution, "
            "pooling, ReLU, Flatten and FC"
        )
    sizes = {key: layer.get(key) for key in SIZES[kind]}
    pad = sizes.get("pad", 0)
    others = [value for key, value in sizes.items() if key != "pad"]
    is_pad = type(pad) is int and 0 <= pad < sizes.get("k", 1)
    if not all(map(is_count, others)) or not is_pad:
        raise UnusableError(f"the sizes of its layer {str(name)[:40]} are damaged")
    checked = {"name": str(name)[:40], "kind": kind, **sizes}
    checked["shape"] = _shape(checked, shape)
    if kind in ("conv", "fc"):
        inputs = shape[0] * sizes["k"] ** 2 if kind == "conv" else shape[0]
        expected = {"weights": (sizes["F"], inputs), "bias": (sizes["F"],)}
        for key, of_shape in expected.items():
            checked[key] = _rounded(arrays, f"{place}.{name}.{key}", of_shape)
    return checked


def _shape(layer, shape):
    """The shape of a layer's output. Raises: UnusableError."""
    kind = layer["kind"]
    if kind == "relu":
        return shape
    if kind == "flatten":
        return [math.prod(shape)]
    if (kind == "fc") != (len(shape) == 1):
        raise UnusableError(f"its layer {layer['name']} does not fit the one before")
    if kind == "fc":
        return [layer["F"]]
    window, pad = layer.get("k", layer.get("size")), layer.get("pad", 0)
    rows = [(size + 2 * pad - window) // layer["stride"] + 1 for size in shape[1:]]
    made = [layer.get("F", shape[0]), *rows]
    if min(rows) < 1 or math.prod(made) > MAX_VALUES:
        raise UnusableError(f"its layer {layer['name']} does not fit the one before")
    return made


def _rounded(arrays, name, shape):
    """The array of that name, rounded to bfloat16. Raises: UnusableError."""
    array = arrays.get(name)
    if array is None or array.shape != shape:
        got = "nothing" if array is None else str(array.shape)[:60]
        raise UnusableError(f"expected {name} of shape {shape}, got {got}")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = to_bfloat16(array.astype(np.float32))
        if np.isfinite(rounded).all():
            return rounded
    raise UnusableError(f"{name} has values that are no finite numbers")


def to_bfloat16(values):
    """Float32 rounded to its upper 16 bits, half to even: all that the page keeps of a weight."""
    bits = values.view(np.uint32)
    half = 0x7FFF + (bits >> 16 & 1)
    return (bits + half & np.uint32(0xFFFF0000)).view(np.float32)


def _check_ends(network, shape):
    """Raise UnusableError unless outputs are those of the classes and images can be normalised."""
    channels, classes = network.input[0], network.classes
    if not _are(classes, lambda name: isinstance(name, str), math.prod(shape)) or len(shape) > 1:
        raise UnusableError(f"its last layer has the shape {shape}, which are not its classes")
    scales = network.mean, network.deviation
    if not all(_are(numbers, _is_number, channels) for numbers in scales) or min(scales[1]) <= 0:
        raise UnusableError("how its images were normalised is not known")
    for what, count, most in (
        ("parameters", network.parameters.size, MAX_PARAMETERS),
        ("products for an image", network.num_products, MAX_PRODUCTS),
    ):
        if count > most:
            raise UnusableError(f"it has {count:,} {what}, and the page takes {most:,}")


def _is_number(value):
    return isinstance(value, int | float) and as_number(value) is not None
