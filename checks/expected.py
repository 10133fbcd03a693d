"""Computes what judge compares with: what the reference returns, and what each mistake returns.

Holds the solutions: not for hand-outs, which get its result as a file, for seed 0.
"""

import functools
from types import SimpleNamespace

from checks import (  # those of mistakes that are imported for what they register
    expectations,
    mistakes,
    mistakes_convolution,  # noqa: F401
    mistakes_fc,  # noqa: F401
    mistakes_l2,  # noqa: F401
    mistakes_pooling,  # noqa: F401
    mistakes_relu,  # noqa: F401
    mistakes_softmax,  # noqa: F401
    reference,
    torch_expected,
)
from checks.comparison import is_same
from checks.probes import observe


@functools.cache
def expected(seed=0):
    """The Expected for a seed."""
    right = {key: [value] for key, value in observe(reference, seed).items()}
    for method, attributes in mistakes.ALSO_RIGHT:
        for key, value in observe(changed(method, attributes), seed, method).items():
            if not is_same(key, value, right[key]):
                right[key].append(value)
    known = {}
    for id, method, sentence, formula, attributes in mistakes.KNOWN:
        seen = observe(changed(method, attributes), seed, method)
        variant = {k: v for k, v in seen.items() if not is_same(k, v, right[k])}
        mistake = expectations.Mistake(id, method, sentence, formula, [])
        known.setdefault(id, mistake).variants.append(variant)
    return expectations.Expected(right, list(known.values()))


def changed(method, attributes):
    """A module with the class of a method in which some of its attributes are others."""
    name = method.partition(".")[0]
    return SimpleNamespace(**{name: type(name, (getattr(reference, name),), attributes)})


def save(path, seed=0):
    """Write the Expected for a seed, of the PyTorch scripts, too: expected.npz in a hand-out."""
    both = expected(seed), torch_expected.expected(seed)
    right = both[0].right | both[1].right
    known = both[0].mistakes + both[1].mistakes
    expectations.save(path, expectations.Expected(right, known))
