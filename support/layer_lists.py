"""What a run leaves of its network for the page: the list of its layers, and the weights of all of
them before training.

page/network.json: layers (name, kind, sizes), the shape of an image, mean and deviation with which
images were normalised, and the names of the classes.
"""

import math

from support import files

import numpy as np

KINDS = {"convolution": "conv", "maxpooling": "pool", "relu": "relu", "flatten": "flatten"}
KINDS["fc"] = "fc"


def layer_list(net):
    """Name, kind and sizes of each layer, known by its class's name; a layer with another name, or
    of which not all is known, has that name as its kind.
    """
    return [{"name": str(layer.name), **_sizes(layer)} for layer in net]


def _sizes(layer):
    name = type(layer).__name__
    kind = KINDS.get(name.lower(), name)
    try:
        if kind == "conv":
            C = layer.input_shape[1]
            k = math.isqrt(layer.weights.shape[1] // C)
            stride = getattr(layer, "stride", 1)
            # where a layer does not say it, what makes its input as large as its output needs
            missing = (layer.shape[2] - 1) * stride + k - layer.input_shape[2]
            pad = getattr(layer, "pad", max(0, -(-missing // 2)))
            sizes = {"F": len(layer.weights), "k": k, "pad": pad, "stride": stride}
        elif kind == "pool":
            sizes = {"size": layer.pool_size, "stride": layer.stride}
        elif kind == "fc":
            sizes = {"F": len(layer.weights)}
        else:
            sizes = {}
        return {"kind": kind} | {key: int(value) for key, value in sizes.items()}
    except (AttributeError, IndexError, TypeError, ValueError):
        return {"kind": name}


def write(folder, layers, dataset, initial=None):
    """layers: a layer_list; dataset: a data.Dataset; initial: the parameters before training by
    name, as in model.npz.
    """
    shape = dataset.test_x.shape[1:]

    def of_channels(values):
        return np.broadcast_to(np.ravel(values), shape[:1]).tolist()

    (folder / "page").mkdir(exist_ok=True)
    described = {"input": list(shape), "layers": layers, "classes": list(dataset.class_names)}
    described |= {"mean": of_channels(dataset.mean), "deviation": of_channels(dataset.std)}
    files.write_json(folder / "page" / "network.json", described)
    if initial is not None:
        files.write_arrays(folder / "page" / "initial.npz", initial)
