"""What a run leaves of its network for the page: the list of its layers, and the weights of all of
them before training.

page/network.json: layers (name, kind, sizes), the shape of an image, mean and deviation with which
images were normalised, and the names of the classes.
"""

import math

from support import files

import numpy as np

KINDS = {
    "convolution": "conv",
    "maxpooling": "pool",
    "relu": "relu",
    "flatten": "flatten",
    "fc": "fc",
}
POOL_SIZES = {"size": "pool_size", "stride": "stride"}  # attributes; the lab's are 2 by default


def layer_list(net, shape):
    """Name, kind and sizes of each layer, known by the name of its class or of one that it is
    derived from; else, or where its sizes are not known, its kind is that name.

    shape: of the images, (N, C, H, W).
    """
    listed = []
    for layer in net:
        listed.append({"name": str(layer.name), **_kind_and_sizes(layer, shape)})
        shape = layer.shape
    return listed


def _kind_and_sizes(layer, shape):
    name = type(layer).__name__
    known = [KINDS[c.__name__.lower()] for c in type(layer).__mro__ if c.__name__.lower() in KINDS]
    sizes = {}
    try:
        if "conv" in known:
            k = math.isqrt(layer.weights.shape[1] // shape[1])
            pad = getattr(layer, "pad", (k - 1) // 2)
            sizes = {"F": len(layer.weights), "k": k, "pad": pad}
            sizes["stride"] = getattr(layer, "stride", 1)
        elif "pool" in known:
            sizes = {key: getattr(layer, name, 2) for key, name in POOL_SIZES.items()}
        elif "fc" in known:
            sizes = {"F": len(layer.weights)}
        sizes = {key: int(size) for key, size in sizes.items()}
        if known and _fit(sizes, shape, layer.shape):
            return {"kind": known[0], **sizes}
    except (AttributeError, IndexError, TypeError, ValueError):
        pass
    return {"kind": name}


def _fit(sizes, shape, out_shape):
    """Whether a window of these sizes gives maps of out_shape; true if there is no window."""
    window, pad = sizes.get("k", sizes.get("size")), sizes.get("pad", 0)
    if window is None:
        return True
    outputs = [(size + 2 * pad - window) // sizes["stride"] + 1 for size in shape[2:]]
    return outputs == list(out_shape[2:])


def write(folder, net, dataset, initial):
    """Leave both in a run's folder. net: its layers; initial: the parameters before training by
    name, as in model.npz.
    """
    write_list(folder, layer_list(net, dataset.test_x.shape), dataset)
    files.write_arrays(folder / "page" / "initial.npz", initial)


def write_list(folder, layers, dataset):
    """layers: a layer_list; dataset: a data.Dataset."""
    shape = dataset.test_x.shape[1:]

    def of_channels(values):
        return np.broadcast_to(np.ravel(values), shape[:1]).tolist()

    (folder / "page").mkdir(exist_ok=True)
    described = {"input": list(shape), "layers": layers, "classes": list(dataset.class_names)}
    described |= {"mean": of_channels(dataset.mean), "deviation": of_channels(dataset.std)}
    files.write_json(folder / "page" / "network.json", described)
