"""The networks that go into the page, as texts that forward.js unpacks."""

import base64
import zlib

import numpy as np
from jinja2.utils import htmlsafe_json_dumps


def packed(network):
    """A Network as JSON; its parameters in bfloat16, the upper 16 bits of a float32, deflated, in
    base64. The low bytes of all come first, then the high ones, which are much alike.
    """
    halves = (network.parameters.view(np.uint32) >> 16).astype("<u2")
    octets = halves.view(np.uint8).reshape(-1, 2)  # low and high byte
    # weights never repeat, so that short codes for frequent bytes are all there is to gain
    deflate = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY, memLevel=9)
    content = deflate.compress(np.ascontiguousarray(octets.T).tobytes()) + deflate.flush()
    sizes = [
        {key: value for key, value in layer.items() if key not in ("weights", "bias", "shape")}
        for layer in network.layers
    ]
    spec = {"input": network.input, "classes": network.classes, "mean": network.mean}
    spec |= {"deviation": network.deviation, "layers": sizes}
    return htmlsafe_json_dumps({**spec, "weights": base64.b64encode(content).decode()})
