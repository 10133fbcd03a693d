"""What comes out of every method in every situation; nothing here knows what is right.

observe(layers) returns a dict of arrays and texts; its keys are "Class.method/situation", for
backward_params with "/weights" or "/bias". The texts are those of calls.py.
"""

import numpy as np

from checks import calls, cases, tasks


def observe(layers, seed=0, only=None, quiet=True):
    """Everything that the methods of a module with layers return.

    only: a class or Class.method. quiet: what they print is lost. Raises nothing that they raise.
    """
    from checks import situations

    methods = tasks.chosen(only)
    classes = dict.fromkeys(name.partition(".")[0] for name in methods)
    seen = {}
    for name in classes:
        watch = Watch(layers, name, seed, quiet)
        getattr(situations, f"observe_{name}")(watch)
        seen |= watch.seen
    return {key: value for key, value in seen.items() if key.partition("/")[0] in methods}


class Watch:
    """Calls the methods of one class of a module, and notes what came out under the keys."""

    def __init__(self, layers, name, seed, quiet=True):
        self.layers, self.name, self.seed, self.quiet = layers, name, seed, quiet
        self.stopped = {}  # method: text of one that did not end
        self.file = getattr(layers, "__file__", None)
        self.kind = getattr(layers, name, None)
        self.methods = [m.partition(".")[2] for m in tasks.ALL if m.startswith(f"{name}.")]
        self.seen = {f"{name}.{method}/arguments": "ok" for method in self.methods}

    def numbers(self, name, shape):
        return cases.numbers(self.seed, f"{self.name} {name}", shape)

    def note(self, method, situation, value):
        """Note a value, for backward_params a dict of them, or a text for all its parts."""
        key = f"{self.name}.{method}/{situation}"
        if method != "backward_params":
            self.seen[key] = value
            return
        for part in ("weights",) if self.name == "L2Regularizer" else ("weights", "bias"):
            self.seen[f"{key}/{part}"] = value[part] if isinstance(value, dict) else value

    def build(self, situation, *args, is_extra=False, **options):
        """A layer; None if there is none, which is noted for all its methods.

        is_extra: the exercise does not ask for it, an error means that it is not offered.
        """
        if self.kind is None:
            failure = "to do"
        else:
            layer, failure = calls.attempt(self.kind, *args, file=self.file, **options)
        if failure is None:
            dtype = getattr(getattr(layer, "weights", None), "dtype", None)
            if dtype == np.float32 and situation != "float32":  # its constructor has rounded them
                self.seen |= {f"{self.name}.{m}/parameters": "float32" for m in self.methods}
            return layer
        if is_extra:
            failure = "not offered: " + failure.removeprefix("error: ").partition("\n")[0]
        self.note_all(situation, failure)
        return None

    def note_all(self, situation, text):
        for method in self.methods:
            self.note(method, situation, text)

    def run(self, layer, method, *args):
        """(result, failure) of a call with copies of args, which it must leave as they are."""
        args = [np.array(arg) for arg in args]
        held = {"self.weights": getattr(layer, "weights", None)}
        held["self.bias"] = getattr(layer, "bias", None)
        if self.name == "SoftmaxCrossEntropyWithLogits":
            held |= zip(("x", "y"), args, strict=True)
        elif method == "forward" and args:
            held["x"] = self.x = args[0]
        elif args:
            held |= {"grad_out": args[0], "x": getattr(self, "x", None)}
        held = {k: v for k, v in held.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        before = {name: array.copy() for name, array in held.items()}
        if not hasattr(self.kind, method):
            return None, "to do"
        if method in self.stopped:
            return None, self.stopped[method]
        result, failure = calls.attempt(
            lambda: getattr(layer, method)(*args), file=self.file, quiet=self.quiet
        )
        if failure is not None and failure.startswith("error: TimeoutError"):
            self.stopped[method] = failure
        for name, array in held.items():
            changed = calls.first_difference(before[name], array)
            key = f"{self.name}.{method}/arguments"
            if changed and self.seen[key] == "ok":
                self.seen[key] = (
                    f"problem: it changes {name} itself: {name}{changed} after the call"
                )
        if failure is None and result is None:
            failure = "to do" if calls.is_gap(getattr(self.kind, method)) else "none"
        return result, failure

    def call(self, situation, layer, method, *args, is_extra=False):
        """Call a method and note what it returned."""
        result, failure = self.run(layer, method, *args)
        if failure is not None and is_extra and failure.startswith("error"):
            failure = "not offered: " + failure.removeprefix("error: ").partition("\n")[0]
        if failure is not None:
            value = failure
        elif method == "backward_params":
            value = self.pairs(layer, result)
        else:
            value = calls.as_result(result)
        self.note(method, situation, value)

    def pairs(self, layer, result):
        """The gradients in what backward_params returned, by name, or a text."""
        names = ["weights"] if self.name == "L2Regularizer" else ["weights", "bias"]
        expected = ", ".join(f"[{name}, grad_{name}]" for name in names)
        expected = f"[{expected}, name]"
        if not isinstance(result, list | tuple):
            return f"problem: it returns a {type(result).__name__}, expected {expected}"
        if len(result) != len(names) + 1:
            last = result[-1] if len(result) else None
            missing = "; the name is missing" if len(result) == len(names) else ""
            if isinstance(last, str) and missing:
                missing = ""
            return f"problem: it returns {len(result)} elements, expected {expected}{missing}"
        if not isinstance(result[-1], str):
            kind = type(result[-1]).__name__
            return f"problem: the last element is a {kind}, expected the name: {expected}"
        found = {}
        for name, pair in zip(names, result, strict=False):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                return f"problem: it returns no pair for {name}, expected {expected}"
            if pair[0] is not getattr(layer, name, None):
                found[name] = (
                    f"problem: the pair for {name} does not begin with self.{name} itself, so that "
                    "an update would not reach it"
                )
            elif pair[1] is None:
                found[name] = "to do"
            else:
                found[name] = calls.as_result(pair[1], f"grad_{name}")
        return found
