"""What can be said of a value that is not right: where it differs, and what it is instead."""

import numpy as np

from checks.comparison import EXACT, differences, is_same, tolerance
from checks.expectations import Mistake

FACTS = {"arguments": "argument-changed", "first output": "output-overwritten"}  # key: id
FACTS |= {"zero over zero": "zero-over-zero", "trained": "model-changed"}
LAST_PART = "logits"  # judged only where the others are right
PARTS = ("value", "weights", "bias", LAST_PART)
FLOAT32 = Mistake(
    "float32-in-between",
    "",
    "it is right up to the rounding of float32, though all that came in was float64",
    "compute in the type of the inputs",
    [],
)
SITUATIONS = {  # where a situation is no more than a usual batch, it needs no words
    "batch": "",
    "batch of one": "with a batch of one",
    "smaller batch": "with a smaller batch than the layer was built with",
    "second forward": "after a second forward",
    "second backward": "when it is called once more",
    "parameters changed": "after weights and bias were changed in place",
    "parameters replaced": "after weights and bias were replaced",
    "float32": "in float32",
    "square": "with as many inputs as outputs and images",
    "zeros": "with zeros in the inputs",
    "matrix": "with an input of two axes",
    "size": "the number of parameters",
    "outputs": "with the weights that the check sets",
    "one image": "with one image",
    "loss": "the loss",
    "confusion": "the confusion matrix",
    "usual": "",
    "weights": "",
    "as many as classes": "with as many images as classes",
    "delta": "with another delta",
    "gradient, usual": "its gradient",
    "gradient, one image": "its gradient with one image",
    "gradient, delta": "its gradient with another delta",
    "another layer": "after another layer of its kind has run",
}


def kind(value):
    """The kind of a text: "to do", "none", "error", "problem", "not offered", ..."""
    return value.partition(":")[0] if isinstance(value, str) else "array"


def is_fact(key):
    return key.partition("/")[2] in FACTS


def part_of(key):
    """The part of a method's result in which a key is: those that have mistakes of their own."""
    method, situation, *parts = key.split("/")
    if parts and not method.startswith("L2Regularizer"):
        return parts[0]
    return LAST_PART if situation.startswith(("logits", "rows")) else "value"


def situation_of(key):
    situation = key.split("/")[1]
    return SITUATIONS.get(situation, f"with {situation}")


def is_float32_in_between(seen, right):
    """Whether all arrays are right up to the rounding of float32, and are numbers of it."""
    for key, value in seen.items():
        if isinstance(value, str):
            return False
        if tolerance(key) != EXACT:
            continue
        with np.errstate(over="ignore"):
            if not np.array_equal(value, value.astype(np.float32), equal_nan=True):
                return False
        if not is_same(key, value, right[key], is_single=True):
            return False
    return bool(seen)


def are_all_float32(seen):
    """Whether that is the type of all that was returned where all that came in was float64."""
    types = {value.dtype for key, value in seen.items() if tolerance(key) == EXACT}
    return types == {np.dtype(np.float32)}


def left_out(key, value):
    name, _, rest = key.partition(".")
    situation = rest.split("/")[1]
    return f"{name} {situation}: {value.removeprefix('not offered: ')}"


def describe(wrong, seen, right, single, observations):
    """A sentence on the first of the wrong keys: an error, a shape, or the worst number."""
    key = wrong[0]
    value, target = seen[key], right[key][0]
    method, where = key.partition("/")[0], situation_of(key)
    is_part = len(key.split("/")) > 2 and not method.startswith("L2Regularizer")
    subject = f"grad_{key.split('/')[2]}" if is_part else "it"
    where = f"{where}: " if where else ""
    if isinstance(value, str):
        return where + _text(value, method, observations)
    if value.shape != target.shape:
        return f"{where}{subject} has the shape {value.shape}, expected {target.shape}"
    far = differences(key, value, target, single)
    index = np.unravel_index(np.argmax(far), far.shape)
    place = f" at {tuple(map(int, index))}" if index else ""
    got, wanted = (f"{array[index]:.6g}" for array in (value, target))
    if got == wanted:  # the difference is further behind
        got, wanted = (f"{float(array[index]):.15g}" for array in (value, target))
    return f"{where}{subject} differs{place}: got {got}, expected {wanted}"


def _text(value, method, observations):
    said = kind(value)
    if said == "none":
        return "it returns None: is a return missing?"
    if said == "to do":
        return "a part of it is still a gap"
    if said == "missing":
        return "it was not reached"
    text = value.partition(": ")[2]
    forward = f"{method.partition('.')[0]}.forward"
    if said == "error" and method != forward:
        of_forward = [v for k, v in observations.items() if k.partition("/")[0] == forward]
        if any(kind(v) in ("to do", "none") for v in of_forward):
            return f"it needs what {forward} keeps, which is still to do ({text.splitlines()[0]})"
    return text
