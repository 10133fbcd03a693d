"""A worked example: one test image through all layers, as pictures and a table that stand in the
page itself, for paper and for readers without JavaScript."""

import base64

from support.page.pictures import png

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

MAP_COLUMNS, VALUE_COLUMNS = 8, 64  # in a row of the picture of maps, of a vector
WIDTH = 480  # pixels on the screen of a picture at most, where its own are not more
# from the most negative over zero to the most positive value; as in the pictures of the filters
SCALE = {
    -1: (6, 36, 95),
    -0.4: (42, 116, 212),
    0: (230, 230, 230),
    0.4: (224, 106, 18),
    1: (97, 23, 0),
}


def forward(network, image):
    """The normalised image (C, H, W) of uint8, and what each layer makes of it; see layers.py."""
    mean, deviation = (
        np.array(values, np.float32)[:, None, None] for values in (network.mean, network.deviation)
    )
    outs = [(image / np.float32(255) - mean) / deviation]
    for layer in network.layers:
        outs.append(_output(layer, outs[-1]))
    return outs


def _output(layer, x):
    kind = layer["kind"]
    if kind == "relu":
        return x.clip(min=0)
    if kind == "flatten":
        return x.ravel()
    if kind == "fc":
        return layer["weights"] @ x + layer["bias"]
    size, stride, pad = layer.get("k", layer.get("size")), layer["stride"], layer.get("pad", 0)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    if kind == "pool":
        return windows.max(axis=(3, 4))
    filters = layer["weights"].reshape(layer["F"], len(x), size, size)
    out = np.einsum("cyxij,fcij->fyx", windows, filters, optimize=True)
    return out + layer["bias"][:, None, None]


def worked_example(network, image, label):
    """What the page shows of an image (C, H, W) of uint8 on its way through a network."""
    outs = forward(network, image)
    shares = special.softmax(outs[-1])
    best = np.argsort(-shares, kind="stable")[:3]
    layers = [{"name": "input", "kind": "input"}, *network.layers]
    layers.append({"name": "softmax", "kind": "softmax"})
    shown, field, jump = [], 1, 1
    for layer, out in zip(layers, [*outs, shares], strict=True):
        if layer["kind"] in ("fc", "softmax"):
            field = None  # all of the image
        elif field is not None:
            field += (layer.get("k", layer.get("size", 1)) - 1) * jump
            jump *= layer.get("stride", 1)
        shown.append(_shown(layer, out) | {"receptive_field": field})
    return {
        "label": label,
        "layers": shown,
        "largest": _largest(network.layers[0], outs[1]),
        "best": [(network.classes[k], float(outs[-1][k]), float(shares[k])) for k in best],
    }


def _shown(layer, out):
    """A layer's output: its shape, parameters, range and share of zeros, and a picture of it."""
    mosaic = _mosaic(out if out.ndim == 3 else out[:, None, None])
    height, width = mosaic.shape
    limit = max(float(np.abs(out).max()), 1e-9)
    channels = np.array(list(SCALE.values())).T
    pixels = np.stack([np.interp(mosaic / limit, list(SCALE), c) for c in channels], axis=2)
    content = png(np.rint(pixels).astype(np.uint8))
    return {
        "name": layer["name"],
        "shape": out.shape,
        "num_params": sum(layer[key].size for key in ("weights", "bias") if key in layer),
        "least": float(out.min()),
        "most": float(out.max()),
        "zeros": float((out == 0).mean()),
        "limit": limit,
        "address": "data:image/png;base64," + base64.b64encode(content).decode(),
        "width": width,
        "height": height,
        "zoom": max(1, min(8 if out.ndim == 3 else 24, WIDTH // width)),
    }


def _largest(layer, out):
    """How a convolution makes the largest of its values: its place, the sum and the bias; None of
    another layer."""
    if layer["kind"] != "conv":
        return None
    f, row, column = np.unravel_index(out.argmax(), out.shape)
    value, bias = float(out.max()), float(layer["bias"][f])
    place = {"map": int(f), "row": int(row), "column": int(column)}
    products = layer["weights"].shape[1]
    return {"name": layer["name"], **place, "products": products, "sum": value - bias, "bias": bias}


def _mosaic(maps):
    """Maps (C, H, W) side by side, (rows, columns), with zeros between if they are no vector's."""
    C, H, W = maps.shape
    gap = 1 if H > 1 else 0
    columns = min(C, MAP_COLUMNS if gap else VALUE_COLUMNS)
    rows = -(-C // columns)
    padded = np.zeros((rows * columns, H + gap, W + gap), maps.dtype)
    padded[:C, :H, :W] = maps
    mosaic = padded.reshape(rows, columns, H + gap, W + gap).transpose(0, 2, 1, 3)
    mosaic = mosaic.reshape(rows * (H + gap), columns * (W + gap))
    return mosaic[: len(mosaic) - gap, : mosaic.shape[1] - gap]
