"""What a PyTorch run leaves of its network for the page: page/network.json with its layers, found
by watching an image on its way through the model, and page/model.npz with their parameters, named
as those of the NumPy half. See layer_lists.py.
"""

import sys

from support import files, layer_lists

import torch
from torch.overrides import TorchFunctionMode

SAME_VALUES = ("float", "to", "contiguous", "dropout")  # in evaluation mode


def write(folder, model, dataset):
    """Leave a model's layers and parameters in a run's folder. Where that fails there is a warning,
    and in the page a sentence in place of the network.
    """
    try:
        layers, arrays = watched(model, dataset.test_x[:1])
        layer_lists.write_list(folder, layers, dataset)
        files.write_arrays(folder / "page" / "model.npz", arrays)
    except Exception as error:  # whatever a student's model does: the training is done
        reason = files.in_one_line(error)
        print(f"warning: the page will not show this network: {reason}", file=sys.stderr)


def watched(model, images):
    """The layers of a model as a layer_list, and their parameters by name. images: (1, C, H, W)."""
    was_training = model.training
    model.eval()
    x = torch.from_numpy(images).to(next(model.parameters()).device)
    try:
        with torch.no_grad(), Watch(x, model) as watch:
            model(x)
    finally:
        model.train(was_training)
    return watch.layers, watch.arrays


class Watch(TorchFunctionMode):
    """Notes each function that is called with what the one before returned.

    layers: a layer_list, in which a function that is no layer of the lab's has a kind of its own;
    arrays: the parameters.
    """

    def __init__(self, x, model):
        super().__init__()
        self._last = x
        self._names = {id(p): name.removesuffix(".weight") for name, p in model.named_parameters()}
        self.layers, self.arrays = [], {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        maps = [tensor for tensor in tensors if not isinstance(tensor, torch.nn.Parameter)]
        if isinstance(out, torch.Tensor) and maps:
            name = function.__name__.strip("_")
            is_in_a_row = len(maps) == 1 and maps[0] is self._last
            if not is_in_a_row:
                self.layers.append({"name": name, "kind": f"{name}, not in a row"})
            elif name not in SAME_VALUES:
                self._note(name, args, kwargs)
            self._last = out
        return out

    def _note(self, name, args, kwargs):
        place, kinds = len(self.layers), [layer["kind"] for layer in self.layers]
        try:
            sizes, weights, bias = READERS[name](*args, **kwargs)
        except (KeyError, TypeError, ValueError):
            self.layers.append({"name": name, "kind": name})
            return
        if weights is None:
            number = kinds.count(sizes["kind"]) + 1
            self.layers.append({"name": f"{sizes['kind']}{number}", **sizes})
            return
        name = self._names.get(id(weights), f"{sizes['kind']}{place + 1}")
        self.layers.append({"name": name, **sizes})
        weights = weights.detach().float().cpu().reshape(len(weights), -1)
        bias = torch.zeros(len(weights)) if bias is None else bias.detach().float().cpu()
        for key, parameter in (("weights", weights), ("bias", bias)):
            self.arrays[f"{place}.{name}.{key}"] = parameter.numpy()


# --- the layers of the lab: PyTorch's own arguments -> kind and sizes, weights, bias ------------


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    k = one(weight.shape[2:])
    if one(dilation) != 1 or groups != 1 or (padding == "same" and k % 2 == 0):
        raise ValueError
    padding = {"same": (k - 1) // 2, "valid": 0}.get(padding, padding)
    sizes = {"kind": "conv", "F": len(weight), "k": k, "pad": one(padding), "stride": one(stride)}
    return sizes, weight, bias


def max_pool2d(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    if one(padding) or one(dilation) != 1 or ceil_mode:
        raise ValueError
    size = one(kernel_size)
    return {"kind": "pool", "size": size, "stride": one(stride or size)}, None, None


def relu(x, inplace=False):
    return {"kind": "relu"}, None, None


def flatten(x, *_shape, **_axes):
    return {"kind": "flatten"}, None, None


def linear(x, weight, bias=None):
    return {"kind": "fc", "F": len(weight)}, weight, bias


READERS = {f.__name__: f for f in (conv2d, max_pool2d, relu, flatten, linear)}
READERS |= {"view": flatten, "reshape": flatten}


def one(size):
    """A size that is the same for rows and columns. Raises: ValueError."""
    sizes = {size} if isinstance(size, int) else set(size)
    (only,) = sizes
    return only
