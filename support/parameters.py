"""The arrays that a training changes, found in the layers that hold them, whatever their names."""

import sys
from collections import deque
from types import FunctionType, ModuleType

import numpy as np

LESSON = ("weights", "bias")  # the names that the lab gives them


class Parameters:
    """The parameters of a network and of a loss, named by place, such as '0.conv1.weights'.

    Those that a layer calls weights and bias are known from the start. Others, gamma and beta for
    example, are known once backward_params has returned them, or a checkpoint has named them.
    An array is looked up anew each time, so a layer may replace it.
    """

    def __init__(self, net, loss=None):
        self._roots = [(f"{i}.{layer.name}", layer) for i, layer in enumerate(net)]
        self._trained = [*self._roots, ("loss", loss)]  # a loss may have parameters of its own
        self._keys = {}  # name: (object, attributes and indices that lead to the array)
        for root, layer in self._roots:
            for key in LESSON:
                if isinstance(getattr(layer, key, None), np.ndarray):
                    self._keys[f"{root}.{key}"] = (layer, (key,))
        self._warned = set()

    def arrays(self):
        """{name: array}."""
        found = {}
        for name, (value, keys) in self._keys.items():
            for key in keys:
                value = (
                    value[key] if isinstance(value, dict | list | tuple) else getattr(value, key)
                )
            found[name] = value
        return found

    def noting(self, update):
        """update(grads, config), but that every array in grads is known from then on."""

        def noting_update(grads, config):
            self.note(grads)
            update(grads, config)

        return noting_update

    def note(self, grads):
        """Know from now on every array in [[[array, gradient], ..., name], ...]."""
        known = list(self.arrays().values())
        numbers = set(map(id, known))
        for *pairs, owner in grads:
            for array, _ in pairs:
                if id(array) in numbers or any(np.may_share_memory(array, a) for a in known):
                    continue
                place = self._find(array)
                if place is not None:
                    name, self._keys[name] = place
                    known.append(array)
                elif owner not in self._warned:
                    self._warned.add(owner)
                    print(
                        f"warning: {owner} has a parameter of shape {np.shape(array)} that is none "
                        "of its attributes: checkpoints do not hold it",
                        file=sys.stderr,
                    )

    def load(self, saved):
        """Set the arrays in place to those of {name: array}, and know their names from now on.

        Raises: ValueError if they are of another network.
        """
        there = {name: place for name, place, _ in _walk(self._trained) if name in saved}
        self._keys |= there
        ours = {name: array.shape for name, array in self.arrays().items()}
        theirs = {name: array.shape for name, array in saved.items()}
        if theirs != ours:
            raise ValueError(f"expected {ours}, got {theirs}")
        for name, array in self.arrays().items():
            array[...] = saved[name]

    def _find(self, array):
        """(name, place) of the attribute that is the array, or else shares its memory, or None."""
        shared = None
        for name, place, value in _walk(self._trained):
            if value is array:
                return name, place
            if shared is None and np.may_share_memory(value, array):
                shared = name, place
        return shared


def _walk(roots):
    """(name, place, array) of all arrays in objects, what lies less deep first."""
    queue = deque((name, value, value, ()) for name, value in roots)
    visited = set()
    while queue:
        name, value, root, keys = queue.popleft()
        if isinstance(value, np.ndarray):
            yield name, (root, keys), value
            continue
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, dict):
            parts = value.items()
        elif isinstance(value, list | tuple):
            parts = enumerate(value)
        else:
            parts = _attributes(value)
        queue.extend((f"{name}.{key}", part, root, (*keys, key)) for key, part in parts)


def _attributes(value):
    """(name, value) of what an object holds."""
    if isinstance(value, type | ModuleType | FunctionType):
        return
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    for name in [*getattr(value, "__dict__", ()), *slots]:
        if hasattr(value, name):
            yield name, getattr(value, name)
